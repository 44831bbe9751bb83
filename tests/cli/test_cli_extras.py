"""Every command where an optional package is missing: it works, or one line names what to install."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_run import CLASSES, MODEL, teacher

from spikeclip import create_model
from spikeclip.data.tokenizer import Tokenizer
from spikeclip.graph.saved import save_graphs

RECIPE = f"""
model: {json.dumps(MODEL)}
data: {{source: pictures, cache: cache, test_split: null}}
teacher: {{path: table.npz}}
vocab_size: 300
stages: [{{stage: finetune, epochs: 1, batch_size: 8}}]
"""
TRAINS = {"torch", "accelerate", "huggingface_hub", "numba", "tensorboard"}
TEACHES = {"torch", "huggingface_hub", "transformers"}
DATA = "--data pictures --cache cache"
CLASSIFY = "classify one.png --labels red,blue"

# What each needs; everything else may be missing.
COMMANDS = {
    "--help": set(),
    "train --list": set(),
    "train --keys": set(),
    "data list": set(),
    "cache": set(),
    "data show pictures --limit 4 --cache cache": {"matplotlib"},
    "info model": {"huggingface_hub"},
    "info spikeclip-tiny": {"torch", "huggingface_hub"},
    "lower model": {"torch", "huggingface_hub"},
    "verify model --limit 2 --data pictures --cache cache": set(),
    "interpolate model model --out between --overwrite": {"torch", "huggingface_hub"},
    f"{CLASSIFY} --model model --engine int8": {"numba"},
    f"{CLASSIFY} --model teacher": TEACHES,
    f"evaluate model {DATA} --out r.json": {"numba", "huggingface_hub"},
    f"evaluate model {DATA} --out p.json --task linear_probe": {"torch", "numba", "huggingface_hub"},
    f"evaluate teacher {DATA} --out t.json": TEACHES,
    f"energy model {DATA} --out energy": set(),
    f"energy model {DATA} --out energy --precision int8": {"numba"},
    f"energy model {DATA} --out energy --teacher teacher": TEACHES,
    "teacher embed teacher --data pictures --cache cache --out rows.npz --overwrite": TEACHES,
}
# These take longer or the network, and are tried only where something is missing.
LONG = {
    "train r.yaml --out run": TRAINS,
    "sweep r.yaml --strengths 0 --out sweep": {*TRAINS, "matplotlib"},
    "ablate r.yaml --grid grid.yaml --seeds 0 --out ablation": {*TRAINS, "matplotlib"},
    "demo --out demo": {*TRAINS, "matplotlib", "transformers"},
    "teacher train pictures --out new": TRAINS - {"numba"} | TEACHES,
    "data show nobody/nothing": {"matplotlib", "datasets", "huggingface_hub"},
}
FIGURES = (
    "Warning: figures are left out; this needs matplotlib, which is not installed: pip install matplotlib\n"
)
PACKAGES = [
    "torch",
    "matplotlib",
    "datasets",
    "transformers",
    "accelerate",
    "tensorboard",
    "onnxruntime",
    "onnx",
    "numba",
    "huggingface_hub",
]

# One process for several commands imports PyTorch once.
RUN = """
import contextlib, io, json, sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
from spikeclip.cli import main
for command in sys.argv[2:]:
    out, error, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            main(command.split())
        except SystemExit as end:
            code = end.code
    print(json.dumps([command, code, error.getvalue()]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a model and its graphs, a teacher, pictures, a recipe and a grid."""
    place = tmp_path_factory.mktemp("extras")
    tokenizer = Tokenizer.train(CLASSES, 300)
    text = {**MODEL["text"], "vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id}
    model = create_model("spikeclip-tiny", image=MODEL["image"], text=text)
    model.tokenizer = tokenizer
    model.eval().save_pretrained(place / "model")
    save_graphs(model, place / "model")
    teacher(place / "teacher")
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for i in range(20):
            file = place / "pictures" / split / CLASSES[i % 2] / f"{i // 2}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (32, 32, 3), np.uint8)).save(file)
    Image.new("RGB", (32, 32)).save(place / "one.png")
    (place / "r.yaml").write_text(RECIPE)
    texts = [f"a photo of a {name}." for name in CLASSES[:2]]
    np.savez(place / "table.npz", embeddings=np.eye(16, dtype=np.float32)[:2], texts=texts)
    (place / "grid.yaml").write_text("{axis: {one: [vocab_size=300]}}")
    return place


def without(packages, commands, place: Path) -> dict[str, tuple[int, str]]:
    """Run commands where packages are missing; return the exit code and stderr of each."""
    start = [sys.executable, "-c", RUN, ",".join(packages), *commands]
    done = subprocess.run(start, cwd=place, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {command: (code, error) for command, code, error in rows}


@pytest.mark.parametrize("package", [name for name in PACKAGES if "onnx" not in name])  # nothing needs those
def test_a_missing_package_is_named_in_one_line(package, place):
    commands = [command for command, needs in {**COMMANDS, **LONG}.items() if package in needs]
    found = without([package], commands, place)
    assert list(found) == commands
    for command, (code, error) in found.items():
        assert code == 1, command
        assert error.startswith(f"Error: this needs {package}, which is not installed: pip install "), command
        assert error.count("\n") == 1, command


@pytest.mark.parametrize("needs", {tuple(sorted(needs)): None for needs in COMMANDS.values()}, ids=" ".join)
def test_a_command_works_with_nothing_but_what_it_needs(needs, place):
    for package in needs:
        pytest.importorskip(package)
    commands = [command for command, found in COMMANDS.items() if found == set(needs)]
    others = [package for package in PACKAGES if package not in needs]
    found = without(others, commands, place)
    assert list(found) == commands
    for command, (code, error) in found.items():
        assert code == 0, command
        assert error in ("", FIGURES), command
