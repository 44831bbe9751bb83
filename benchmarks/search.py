"""Finding pictures: how fast they are indexed beside rclip, how fast and how well they are found.

python -m benchmarks.search index --rclip VENV --out results/search/index.json
python -m benchmarks.search rows --rows 100000 1000000 --out results/search/rows.json
python -m benchmarks.search quality --tower DIR --out results/search/quality.json
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.command import finish, number, run
from benchmarks.rows import DIM, TOP, search_speed
from spikeclip.defaults import MODEL

RCLIP = "ViT-B-32-256-datacomp_s34b_b86k"
"""The folder that rclip 3.3 reads its network from."""
_PROCESSOR = """
import resource
def processor():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
"""
_OURS = f"""{_PROCESSOR}
import sys, time
from benchmarks.machine import peak_memory
from spikeclip.open import open_encoder
from spikeclip.search import Index
encoder = open_encoder(sys.argv[3])
before, start = processor(), time.perf_counter()
added = Index.create(sys.argv[2], encoder).add(encoder, [sys.argv[1]])
print(added.added, time.perf_counter() - start, peak_memory(), processor() - before)
"""
_THEIRS = f"""{_PROCESSOR}
import os, sys, time
from rclip.main import init_rclip
os.chdir(sys.argv[1])
rclip, model, database = init_rclip(os.getcwd(), 8, no_indexing=True)
before, start = processor(), time.perf_counter()
rclip.ensure_index(os.getcwd())
seconds, used = time.perf_counter() - start, processor() - before
count = sum(1 for _ in database.get_image_vectors_by_dir_path(os.getcwd()))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(count, seconds, int(peak.split()[1]) / 1024, used)
"""


def main() -> None:
    """Read the options, and run one of the three."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("index", "rows", "quality"))
    parser.add_argument("--model", default=MODEL, help="shipped model")
    parser.add_argument("--data", default="../shared/data", help="folder of the research sets")
    parser.add_argument("--pictures", type=int, default=1000, help="index: files")
    parser.add_argument(
        "--enlarged", type=int, default=0, help="index: as many of 12 megapixels, by themselves"
    )
    parser.add_argument("--rclip", type=Path, help="index: a virtual environment with rclip")
    parser.add_argument("--repeats", type=int, default=3, help="index: turns of each")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="rows: sizes")
    parser.add_argument("--queries", type=int, default=50, help="rows: timed searches")
    parser.add_argument("--kinds", nargs="+", default=["random", "clustered"], help="rows: of vectors")
    parser.add_argument("--tower", type=Path, help="quality: the converted tower of the model, for its twin")
    parser.add_argument("--network", default="efficientnet-lite0", help="quality: the twin")
    parser.add_argument("--threads", type=int, default=2, help="processors of the machine, for the record")
    parser.add_argument("--out", type=Path, help="file for the JSON record")
    arguments = parser.parse_args()
    from benchmarks.machine import Noise

    noise = Noise(arguments.threads)
    noise.sample()
    with tempfile.TemporaryDirectory(prefix="spikeclip-search-") as scratch:
        parts = {"index": index_speed, "rows": search_speed, "quality": quality}
        record = parts[arguments.part](arguments, Path(scratch), noise)
    noise.sample()
    finish(arguments, record, noise.summary())


def write_pictures(data: Path, count: int, folder: Path, enlarged: bool = False) -> None:
    """Write JPEG files as they are in the research sets: photographs of ImageNet, then of Caltech101.

    enlarged: to 4000 x 3000 pixels, encoded anew.
    """
    import io

    import pyarrow.parquet as parquet
    from PIL import Image

    folder.mkdir()
    sources = ("imagenet_sample/test", "imagenet_sample/train", "caltech101/test")
    tables = (parquet.read_table(data / f"{name}.parquet", columns=["image"]) for name in sources)
    encoded = (row["image"]["bytes"] for table in tables for row in table.to_pylist())
    for i, content in zip(range(count), encoded, strict=False):
        file = folder / f"{i:05d}.jpg"
        if enlarged:
            picture = Image.open(io.BytesIO(content)).convert("RGB").resize((4000, 3000))
            picture.save(file, quality=90)
        else:
            file.write_bytes(content)


def index_speed(arguments: argparse.Namespace, scratch: Path, noise: Any) -> dict[str, Any]:
    """Index the same files in turns: each time in a new process, from nothing, the network opened before."""
    from benchmarks.exported import VisionTransformer

    sets = {"as they are": (arguments.pictures, False), "12 megapixels": (arguments.enlarged, True)}
    contestants: dict[str, list[str]] = {"spikeclip": [sys.executable, "-c", _OURS]}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), *sys.path]))}
    if arguments.rclip:
        contestants["rclip"] = [str(arguments.rclip / "bin" / "python"), "-c", _THEIRS]
        write_rclip(
            VisionTransformer(256, patch=32, width=768, depth=12, heads=12, dim=DIM), scratch / "models"
        )
    rows = []
    for name, (count, enlarged) in sets.items():
        if not count:
            continue
        pictures = scratch / name.replace(" ", "-")
        write_pictures(Path(arguments.data), count, pictures, enlarged)
        rounds: dict[str, list[dict[str, float]]] = {contestant: [] for contestant in contestants}
        for turn in range(arguments.repeats):
            for contestant, command in contestants.items():
                noise.sample()
                own = scratch / f"{contestant}-{pictures.name}-{turn}"
                if contestant == "rclip":
                    own.mkdir()
                    for entry in (scratch / "models").iterdir():
                        (own / entry.name).symlink_to(entry)
                    theirs = {**environment, "RCLIP_DATADIR": str(own)}
                    theirs.pop("PYTHONPATH")
                    done = _run([*command, str(pictures)], theirs)
                else:
                    done = _run([*command, str(pictures), str(own), arguments.model], environment)
                indexed, seconds, peak, processor = done
                if indexed != count:
                    raise RuntimeError(f"{contestant} indexed {indexed:.0f} of {count} pictures")
                each = {"rate": count / seconds, "peak_mib": peak, "processor_ms": 1000 * processor / count}
                rounds[contestant].append(each)
                about = f"{each['processor_ms']:.1f} ms of a processor each, peak {peak:.0f} MiB"
                print(f"{name}, {contestant}: {count / seconds:.1f} pictures/s, {about}")
        best = {contestant: max(turn["rate"] for turn in turns) for contestant, turns in rounds.items()}
        ratio = best["spikeclip"] / best["rclip"] if "rclip" in best else None
        rows.append({"pictures": name, "count": count, "rounds": rounds, "best": best, "ratio": ratio})
        print(f"{name}: {number(ratio, 2)} times rclip, of the fastest turns")
    versions = (
        _run([str(arguments.rclip / "bin" / "python"), "-c", _VERSIONS], {}, str) if arguments.rclip else []
    )
    return {"model": arguments.model, "rclip": versions, "sets": rows}


_VERSIONS = "from importlib.metadata import version as v; print(v('rclip'), v('onnxruntime'), v('pillow'))"


def _run(command: list[str], environment: dict[str, str], kind: Any = float) -> list[Any]:
    """Return what a process prints last, as values."""
    done = subprocess.run(command, env=environment or None, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr[-2000:]}")
    return [kind(word) for word in done.stdout.splitlines()[-1].split()]


def write_rclip(network: Any, folder: Path) -> None:
    """Write what rclip looks for: its picture network with random weights, and files that indexing never reads."""
    import torch

    (folder / RCLIP).mkdir(parents=True)
    (folder / "tokenizer").mkdir()
    empty = ("LICENSE", "OPENAI-CLIP-MIT.txt", "README.md", "THIRD_PARTY_NOTICES.md", f"{RCLIP}/textual.onnx")
    for name in (*empty, "tokenizer/bpe_simple_vocab_16e6.txt.gz"):
        (folder / name).touch()
    torch.onnx.export(
        network.eval(),
        (torch.zeros(2, 3, 256, 256),),
        str(folder / RCLIP / "visual.onnx"),
        input_names=["input"],
        output_names=["output"],
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
        dynamo=False,
    )


def quality(arguments: argparse.Namespace, scratch: Path, noise: Any) -> dict[str, Any]:
    """Caltech101's test pictures as a collection, asked for its class names; captions of Flickr8k."""
    import pyarrow.parquet as parquet

    from spikeclip.data.sources import load_pictures
    from spikeclip.search import Index, query_vector
    from weights.measure import Networks, retrieve  # type: ignore[import-not-found]

    if arguments.tower is None:
        sys.exit("error: --tower names the folder of the converted tower, as weights/lite0.sh leaves it")
    data = Path(arguments.data)
    nets = Networks(arguments.model, arguments.tower, arguments.network)
    table = parquet.read_table(data / "caltech101" / "test.parquet").to_pylist()
    part = load_pictures(str(data / "caltech101"), "test", nets.config.format)
    labels = np.asarray(part.labels)
    (scratch / "caltech101").mkdir()
    for i, row in enumerate(table):
        (scratch / "caltech101" / f"{i}.jpg").write_bytes(row["image"]["bytes"])
    index = Index.create(scratch / "db", nets.encoder)
    added = index.add(nets.encoder, [scratch / "caltech101"])
    _, twin_NC = nets.features(part)
    twin_ND = nets.embed(twin_NC)
    of_row = np.array([row["label"] for row in table])
    names = [name.replace("_", " ") for name in part.classnames]
    shares: dict[str, dict[str, float]] = {}
    for prompt in ("{c}", "a photo of a {c}.", "a photo of a {c}"):
        ours, theirs = [], []
        for label, name in enumerate(names):
            if not (labels == label).any():
                continue
            vector_D = query_vector(nets.encoder, texts=[prompt.replace("{c}", name)])
            hits = index.search(vector_D, TOP)
            ours.append(float(np.mean([of_row[int(hit.path.stem)] == label for hit in hits])))
            theirs.append(float((labels[np.argsort(-(twin_ND @ vector_D))[:TOP]] == label).mean()))
        shares[prompt] = {"spiking": mean(ours), "twin": mean(theirs), "classes": len(ours)}
        print(f"Caltech101, {prompt!r}: mean precision@{TOP} {mean(ours):.1%}, twin {mean(theirs):.1%}")
    noise.sample()
    captions = retrieve(nets, str(data / "flickr8k"), "test")
    for key, value in captions["spiking"].items():
        print(f"Flickr8k, {key}: {value:.1%}, twin {captions['twin'][key]:.1%}")
    about = {"model": nets.encoder.fingerprint, "indexed": added.added, f"precision@{TOP}": shares}
    return {**about, "flickr8k": captions}


if __name__ == "__main__":
    run(main)
