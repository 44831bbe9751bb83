"""`spikeclip train FOLDER`, from pictures in folders to the answer about another picture."""

import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from spikeclip.data.shapes import shapes

SMALL = ("stages.0.epochs=20", "model.image={widths: [16, 32, 32]}", "data.cache=cache")


@pytest.fixture(scope="module")
def pictures(folder):
    """Twelve pictures of each class in a folder of its name, and one of each beside them."""
    drawn = shapes("train", 3000)
    frequent = np.flatnonzero(np.bincount(drawn.labels) >= 13)
    by_colour = {drawn.classnames[i].split()[0]: i for i in frequent}
    chosen = list(by_colour.values())[:4]
    names = [drawn.classnames[i] for i in chosen]
    for i, name in zip(chosen, names, strict=True):
        rows = np.flatnonzero(drawn.labels == i)[:13]
        place = folder / "own" / name.replace(" ", "_")
        place.mkdir(parents=True)
        for row in rows[:12]:
            Image.fromarray(drawn.images[row]).save(place / f"{row}.png")
        (folder / "others").mkdir(exist_ok=True)
        Image.fromarray(drawn.images[rows[12]]).save(folder / "others" / f"{name}.png")
    return names


def test_a_folder_of_pictures_becomes_a_classifier(process, pictures, folder):
    code, out, error = process(
        "train", "own", *SMALL, "--out", "mine", SPIKECLIP_DATA="", OMP_NUM_THREADS="1"
    )
    assert code == 0, error
    chance = 1 / len(pictures)
    assert f"{12 * len(pictures)} to train with, {len(pictures)} classes" in out
    table = {line.split()[0]: line for line in out.splitlines() if "%" in line and "mine" in line}
    assert set(table) == {"spiking", "ReLU"}
    for name in ("mine", "mine-relu"):
        result = json.loads((folder / name / "results.json").read_text())
        assert result["stages"][-1]["best"] > 2.5 * chance
        assert result["test"] is None
        held = result["validation"]["pictures"]
        assert f"that of the {held} validation pictures" in out
    *_, spikes = (part for part in table["spiking"].split("  ") if part.strip().startswith("0."))
    assert "interval and spikes of the validation pictures" in out
    assert float(spikes) == pytest.approx(
        json.loads((folder / "mine" / "results.json").read_text())["validation"]["spikes"]["mean_rate"],
        abs=1e-4,
    )
    assert out.count("there is no test/") == 2  # in the plan and beside the table
    assert json.loads((folder / "mine-relu" / "recipe.json").read_text())["model"]["neuron"] == "relu"

    *_, line = out.splitlines()
    words = shlex.split(line.strip().replace("PICTURE", "others"))
    code, out, error = process(*words[1:], "--json")
    assert code == 0, error
    answers = {path: ranked[0]["label"] for path, ranked in json.loads(out).items()}
    right = [label.replace("_", " ") in path for path, label in answers.items()]
    assert len(right) == len(pictures)
    assert np.mean(right) > 2 * chance
    costs = {name: (folder / name / "model" / "README.md").read_text() for name in ("mine", "mine-relu")}
    assert re.search(r"- spike-driven synaptic operations: [1-9][\d.]* M\n", costs["mine"])
    assert "- energy at L2 tiled, with memory and addresses" in costs["mine"]
    assert "pictures of own train" in costs["mine"]
    assert "- energy at L1, counting every operation: fp32 " in costs["mine-relu"]
    assert "synaptic operations: " not in costs["mine-relu"]
    labels = f"{pictures[0]},{pictures[1]},zebra crossing"
    code, out, error = process("classify", "others", "--model", "mine", "--labels", labels)
    assert code == 0
    assert error.count("\n") == 1
    assert "learned no words but those of its 4 class names" in error
    assert error.endswith("so what it says of 'zebra crossing' is a guess\n")

    code, _, error = process(
        "train", "own", *SMALL, "--out", "mine", "--resume", SPIKECLIP_DATA="", OMP_NUM_THREADS="1"
    )
    assert code == 0, error
    code, out, error = process(
        "train", "own", *SMALL, "--out", "mine", SPIKECLIP_DATA="", OMP_NUM_THREADS="1"
    )
    assert (code, out, error.count("\n")) == (1, "", 1)
    assert "--resume continues it, --overwrite replaces it" in error


def test_the_plan_needs_folders_of_pictures(process, folder, pictures):
    (folder / "loose").mkdir(exist_ok=True)
    for i in range(3):
        Image.new("RGB", (40, 30)).save(folder / "loose" / f"{i}.jpg")
    for given in ("loose", "./nowhere", "others"):
        code, out, error = process("train", given, "--out", "never", SPIKECLIP_DATA="", OMP_NUM_THREADS="1")
        assert (code, out, error.count("\n")) == (1, "", 1), error
        assert error.startswith("Error: ")
        assert "folder" in error
    assert not (folder / "never").exists()


def test_one_way_of_a_plan_is_shown_and_what_hinders_it_comes_first(process, pictures, folder):
    (folder / "own" / "notes.txt").write_text("not a picture")
    _, out, error = process("train", "own", *SMALL, "--out", "/proc/mine", "--no-twin", SPIKECLIP_DATA="")
    (folder / "own" / "notes.txt").unlink()
    assert error.splitlines() == [
        "Warning: ./own train: 1 files or folders are no pictures and are passed over: "
        "notes.txt (not a picture by its ending)",
        "Error: the folder /proc/mine cannot be made (No such file or directory): choose another --out",
    ]
    (folder / "mine-relu").mkdir(exist_ok=True)
    (folder / "mine-relu" / "thesis.txt").write_text("")
    code, out, error = process("train", "own", *SMALL, "--out", "mine", SPIKECLIP_DATA="")
    (folder / "mine-relu" / "thesis.txt").unlink()
    assert (code, out, error.count("\n")) == (1, "", 1)
    hidden = "import sys; sys.modules['torch'] = None; from spikeclip.cli import main; main()"
    code, out, error = process("train", "own", *SMALL, "--out", "never", code=hidden, SPIKECLIP_DATA="")
    assert (code, out) == (1, "")
    assert error.startswith("Error: this needs torch, which is not installed: pip install")
