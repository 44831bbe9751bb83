"""`spikeclip serve` under load: mixed requests, throughput against the engine alone, and broken uploads.

python -m benchmarks.serve --out results/serve/load.json
"""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, repeat
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks.broken import uploads
from benchmarks.clients import Request, Server, form, load, served, wire
from benchmarks.command import finish, options, run
from spikeclip.cli.tables import print_table
from spikeclip.data.decode import decode
from spikeclip.defaults import MODEL
from spikeclip.errors import InputError

LABELS = "dog,flower,car,pizza,military uniform"
TEXTS = (
    "a red car",
    "food on a table",
    "a dog in the snow",
    "musical instrument",
    "people at a beach",
    "a ship",
)
MIX = {"classify": 40, "embed image": 20, "search text": 15, "search picture": 10, "thumbnail": 10, "embed text": 4,
       "inspect": 1}  # fmt: skip
"""Shares of the kinds of request, percent."""


def main() -> None:
    """Read the options, measure, print and write."""
    parser = options("A server under load.", [16])
    parser.set_defaults(data="../shared/data/imagenet_sample", repeats=5, seconds=3.0)
    parser.add_argument("--model", default=MODEL, help="shipped model")
    parser.add_argument("--requests", type=int, default=10_000, help="mixed requests")
    parser.add_argument("--clients", type=int, default=32, help="clients at a time")
    parser.add_argument("--broken", type=int, default=1000, help="broken uploads")
    arguments = parser.parse_args()
    from benchmarks.machine import Noise

    noise = Noise(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="spikeclip-bench-") as scratch:
        files = photographs(arguments.data, Path(scratch) / "pictures")
        index = Path(scratch) / "index"
        make_index(arguments.model, index, files[0].parent)
        noise.sample()
        with served(arguments.model, index) as server:
            mixed = measure_mixed(server, files, arguments.requests, arguments.clients)
            noise.sample()
            throughput = [
                measure_throughput(server, arguments, blobs, batch, noise)
                for batch in arguments.batch
                for blobs in ([file.read_bytes() for file in files], shrunk(files))
            ]
            broken = measure_broken(server, arguments.broken)
    finish(
        arguments,
        {"model": arguments.model, "mixed": mixed, "throughput": throughput, "broken": broken},
        noise.summary(),
    )


def photographs(data: str, folder: Path) -> list[Path]:
    """Write the encoded pictures of a data set's test split as files; raises `InputError` without them."""
    import pyarrow.parquet as parquet

    source = Path(data) / "test.parquet"
    if not source.is_file():
        raise InputError(f"no pictures at {source}: --data names a folder with test.parquet")
    folder.mkdir()
    files = []
    for i, picture in enumerate(parquet.read_table(source, columns=["image"])["image"].to_pylist()):
        files.append(folder / f"{i:04}.jpg")
        files[-1].write_bytes(picture["bytes"])
    return files


def shrunk(files: Sequence[Path], side: int = 224) -> list[bytes]:
    """Return pictures as JPEGs of the size that the network reads, as a client may send them."""
    made = []
    for file in files:
        pixels, encoded = decode(file, side), io.BytesIO()
        assert not isinstance(pixels, str)
        Image.fromarray(pixels).save(encoded, "JPEG", quality=90)
        made.append(encoded.getvalue())
    return made


def make_index(model: str, folder: Path, pictures: Path) -> None:
    """Make an index of a folder of pictures by the command."""
    command = [
        sys.executable,
        "-m",
        "spikeclip",
        "index",
        str(pictures),
        "--db",
        str(folder),
        "--model",
        model,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def mixed_requests(files: Sequence[Path], ids: Sequence[str], number: int) -> list[Request]:
    """Return requests of all kinds in the shares of `MIX`, the same ones at every run."""
    rng, made = random.Random(0), []
    for kind in rng.choices(list(MIX), list(MIX.values()), k=number):
        blob, text = rng.choice(files).read_bytes(), rng.choice(TEXTS)
        made.append(
            {
                "classify": lambda b=blob: form(
                    "/v1/classify", [("picture", b)], {"labels": LABELS}, "classify"
                ),
                "embed image": lambda b=blob: form("/v1/embed/image", [("pictures", b)], {}, "embed image"),
                "search picture": lambda b=blob: form("/v1/search", [("picture", b)], {}, "search picture"),
                "inspect": lambda b=blob: form("/v1/inspect", [("picture", b)], {}, "inspect"),
                "search text": lambda t=text: Request(
                    "search text", wire("GET", f"/v1/search?text={t.replace(' ', '+')}")
                ),
                "thumbnail": lambda: Request("thumbnail", wire("GET", f"/v1/pictures/{rng.choice(ids)}")),
                "embed text": lambda t=text: Request(
                    "embed text",
                    wire("POST", "/v1/embed/text", "application/json", json.dumps({"texts": [t]}).encode()),
                ),
            }[kind]()
        )
    return made


def measure_mixed(server: Server, files: Sequence[Path], number: int, clients: int) -> dict[str, Any]:
    """Send mixed requests; return statuses, and latencies of all and of each kind, seconds."""
    base = f"http://{server.host}:{server.port}"
    found = httpx.get(f"{base}/v1/search", params={"text": "a dog", "limit": 100}, timeout=60).json()[
        "results"
    ]
    requests = mixed_requests(files, [picture["id"] for picture in found], number)
    answers, wall = load(server, iter(requests), clients)
    rows = {"all": answers} | {kind: [a for a in answers if a.kind == kind] for kind in MIX}
    latencies = {}
    for kind, group in rows.items():
        good = [a.seconds for a in group if a.status == 200]
        if good:
            p50, p99 = np.percentile(good, [50, 99]).tolist()
            latencies[kind] = {"answered": len(good), "p50": p50, "p99": p99}
    statuses = Counter(str(answer.status) for answer in answers)
    print_table(
        f"{len(answers):,} mixed requests, {clients} clients, {len(answers) / wall:.0f} a second; statuses "
        f"{dict(statuses)}",
        ("kind", "answered", "p50 ms", "p99 ms"),
        [
            (kind, f"{row['answered']:,}", f"{1e3 * row['p50']:.0f}", f"{1e3 * row['p99']:.0f}")
            for kind, row in latencies.items()
        ],
        numbers=(1, 2, 3),
    )
    return {
        "requests": len(answers), "clients": clients, "seconds": wall, "statuses": statuses, "latencies": latencies,
        "errors": sum(n for status, n in statuses.items() if status not in ("200", "503")),
        "memory": server.memory(),
    }  # fmt: skip


def measure_throughput(
    server: Server, arguments: Any, blobs: Sequence[bytes], batch: int, noise: Any
) -> dict[str, Any]:
    """Pictures a second: the server, `batch` JPEGs a request, and in turns with it the engine alone in this process.

    The engine gets pixels ("engine"), or the same JPEGs, decoded in threads beside it ("decode and engine"). With the
    processor time of a picture, which other work on the machine disturbs less.
    """
    from spikeclip.open import open_encoder

    encoder = open_encoder(arguments.model, "int8")
    assert encoder.image_format is not None
    size = encoder.image_format.image_size
    groups = [blobs[i : i + batch] for i in range(0, len(blobs) - batch + 1, batch)]
    pixels = [np.stack([decode(blob, size) for blob in group]) for group in groups]  # type: ignore[misc]
    requests = [
        form("/v1/embed/image", [("pictures", b) for b in group], {}, "embed image") for group in groups
    ]
    clients = max(2, 2 * arguments.clients // batch)
    encoder.encode_image(pixels[0])  # compiles
    pool = ThreadPoolExecutor(arguments.threads)

    def by_server(until: float) -> int:
        answers, _ = load(server, cycle(requests), clients, until - time.perf_counter())
        if bad := [answer for answer in answers if answer.status != 200]:
            raise InputError(
                f"the server answered {bad[0].status}: {bad[0].body[:200].decode(errors='replace')}"
            )
        return len(answers)

    def by_engine(until: float) -> int:
        done = 0
        while time.perf_counter() < until:
            encoder.encode_image(pixels[done % len(pixels)])
            done += 1
        return done

    def by_both(until: float) -> int:
        turns, done = cycle(groups), 0
        waiting = [pool.map(decode, next(turns), repeat(size)) for _ in range(2)]
        while time.perf_counter() < until:
            encoder.encode_image(np.stack(list(waiting.pop(0))))  # type: ignore[arg-type]
            waiting.append(pool.map(decode, next(turns), repeat(size)))
            done += 1
        return done

    contestants = {"server": by_server, "engine": by_engine, "decode and engine": by_both}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    processor: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(arguments.repeats):
        for name, measure in contestants.items():
            clock = server.processor if name == "server" else time.process_time
            start, used = time.perf_counter(), clock()
            done = batch * measure(start + arguments.seconds)
            rates[name].append(done / (time.perf_counter() - start))
            processor[name].append((clock() - used) / done)
        noise.sample()
    others = ("engine", "decode and engine")
    ratios = {
        name: {
            "pictures": median(own / other for own, other in zip(rates["server"], rates[name], strict=True)),
            "processor": median(processor[name]) / median(processor["server"]),
        }
        for name in others
    }
    kilobytes = sum(map(len, blobs)) / len(blobs) / 1000
    print_table(
        f"pictures of {kilobytes:.0f} kB, {batch} a request, {clients} clients, median of {arguments.repeats} rounds",
        ("", "pictures/s", "processor ms a picture", "server over it", "by processor time"),
        [
            (
                name,
                f"{median(values):.0f}",
                f"{1e3 * median(processor[name]):.2f}",
                *(f"{ratios[name][by]:.2f}" if name in ratios else "" for by in ("pictures", "processor")),
            )
            for name, values in rates.items()
        ],
        numbers=(1, 2, 3, 4),
    )
    return {"batch": batch, "clients": clients, "kilobytes": kilobytes, "pictures_per_second": rates,
            "processor_seconds": processor, "server_over": ratios}  # fmt: skip


def measure_broken(server: Server, number: int) -> dict[str, Any]:
    """Send broken uploads; return statuses, those that are 5xx, what was hung up on, and memory before and after."""
    before, statuses, failures, slowest = server.memory(), Counter(), [], 0.0
    with httpx.Client(base_url=f"http://{server.host}:{server.port}", timeout=120) as client:
        for upload in uploads(0, number):
            start = time.perf_counter()
            try:
                answer = client.request(upload.method, upload.address, **upload.options)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                statuses[type(error).__name__] += 1
                continue
            finally:
                slowest = max(slowest, time.perf_counter() - start)
            statuses[str(answer.status_code)] += 1
            if answer.status_code >= 500:
                failures.append(f"{upload.name} {upload.address}: {answer.text[:200]}")
        alive = client.get("/healthz").status_code == 200
    after = server.memory()
    print(f"{number:,} broken uploads: {dict(statuses)}; {len(failures)} of 5xx, slowest {slowest:.2f} s")
    print(
        f"memory {before['now_mib']:.0f} MiB before, {after['now_mib']:.0f} after, at most {after['peak_mib']:.0f}"
    )
    return {"uploads": number, "statuses": statuses, "failures": failures, "still_answers": alive, "slowest": slowest,
            "before": before, "after": after}  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    run(main)
