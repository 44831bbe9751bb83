"""A saved model without PyTorch: the engine's towers, the command line, and a virtual environment that has no torch."""

import json
import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

pytest.importorskip("numba", reason="numba (extra runtime) is not installed")

import spikeclip
from spikeclip.data.tokenizer import Tokenizer
from spikeclip.encode.classify import classify
from spikeclip.encode.student import Student
from spikeclip.engine import Runtime
from spikeclip.errors import InputError
from spikeclip.graph.saved import save_graphs

LABELS = ["red star", "blue ring", "green square"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small saved model with its graphs, and its folder."""
    torch.manual_seed(0)
    text = {"vocab_size": 300, "width": 16, "depth": 1, "num_heads": 2}
    tokenizer = Tokenizer.train([f"a {label}" for label in LABELS], vocab_size=300)
    text |= {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id}
    model = spikeclip.create_model("spikeclip-tiny", embed_dim=16, image={"widths": [8, 16]}, text=text)
    model.tokenizer = tokenizer
    folder = tmp_path_factory.mktemp("model")
    model.eval().save_pretrained(folder)
    save_graphs(model, folder)
    return model, folder


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


def test_a_bare_text_is_no_list_of_texts(model):
    with pytest.raises(InputError, match=r"expected a list of texts, got the text 'a cat': write \[text\]"):
        Runtime.from_pretrained(model[1], precision="fp32").encode_text("a cat")


def test_embeddings_and_answers_are_the_models(model, images):
    model, folder = model
    runtime = Runtime.from_pretrained(folder, precision="fp32")
    settings = model.config.image
    x = torch.from_numpy(
        ((images / 255 - np.array(settings.mean)) / np.array(settings.std)).astype(np.float32)
    )
    with torch.no_grad():
        expected = model.encode_image(x.permute(0, 3, 1, 2), normalize=True).numpy()
        texts = model.encode_text(model.tokenize(LABELS), normalize=True).numpy()
    np.testing.assert_allclose(runtime.encode_image(images), expected, atol=1e-5)
    np.testing.assert_allclose(runtime.encode_text(LABELS), texts, atol=1e-5)
    pictures = [Image.fromarray(image) for image in images]
    templates = ["a {c}", "a photo of a {c}"]
    for found, wanted in zip(
        classify(runtime, pictures, LABELS, templates, top=2),
        classify(Student(model), pictures, LABELS, templates, top=2),
        strict=True,
    ):
        assert [entry["label"] for entry in found] == [entry["label"] for entry in wanted]
        assert [entry["score"] for entry in found] == pytest.approx(
            [entry["score"] for entry in wanted], abs=1e-4
        )


def test_graphs_of_other_weights_are_refused(model, tmp_path):
    model, _ = model
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="holds no graphs; `spikeclip lower"):
        Runtime.from_pretrained(tmp_path)
    save_graphs(model, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"trained on")
    with pytest.raises(InputError, match="of other weights"):
        Runtime.from_pretrained(tmp_path)


@pytest.mark.parametrize("open_", [Runtime.from_pretrained, spikeclip.from_pretrained])
def test_the_tokenizer_of_another_model_is_refused(model, tmp_path, open_):
    folder = shutil.copytree(model[1], tmp_path / "model")
    words, end, pad = (folder / "tokenizer.json").read_text(), "<|endoftext|>", "<|pad|>"
    (folder / "tokenizer.json").write_text(
        words.replace(end, "@END@").replace(pad, end).replace("@END@", pad)
    )
    with pytest.raises(
        InputError, match=r"ends a text with token 2, .* up to token 1: it is the tokenizer of another"
    ):
        open_(folder)


def test_bad_labels(model):
    runtime = Runtime.from_pretrained(model[1])
    with pytest.raises(InputError, match="no labels"):
        classify(runtime, [], [])
    with pytest.raises(InputError, match="given twice"):
        classify(runtime, [], ["cat", "cat"])


def requirements(name, extra=""):
    """Return the distributions that `pip install name[extra]` brings, of those that are installed here."""
    found, queue = {}, [(name, extra)]
    while queue:
        name, extra = queue.pop()
        for line in distribution(name).requires or []:
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            key = canonicalize_name(requirement.name)
            if key not in found:
                found[key] = distribution(requirement.name)
                queue.append((requirement.name, ""))
    return found


def site_without_torch(folder):
    """Make a virtual environment that sees what `spikeclip[runtime]` requires of this one, and nothing else."""
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    for package in requirements("spikeclip", "runtime").values():
        for top in {Path(str(file)).parts[0] for file in package.files or []} - {"..", "__pycache__"}:
            (site / top).symlink_to(Path(str(package.locate_file(top))))
    (site / "spikeclip").symlink_to(Path(spikeclip.__file__).parent)
    return folder / "bin" / "python"


def test_a_virtual_environment_without_pytorch(model, images, tmp_path):
    model, folder = model
    python = site_without_torch(tmp_path / "venv")
    Image.fromarray(images[0]).save(tmp_path / "picture.png")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*arguments):
        return subprocess.run([python, *arguments], capture_output=True, text=True, env=environment)

    assert run("-c", "import torch").returncode != 0
    command = ("-m", "spikeclip", "classify", str(tmp_path / "picture.png"), "--model", str(folder), "--json")
    command += ("--labels", ",".join(LABELS))
    done = run(*command, "--engine", "fp32")
    assert done.returncode == 0, done.stderr
    wanted = classify(Student(model), [Image.fromarray(images[0])], LABELS)[0]
    assert [entry["label"] for entry in json.loads(done.stdout)] == [entry["label"] for entry in wanted]
    done = run(*command)  # the engine by itself
    assert done.returncode == 0, done.stderr
    assert [entry["label"] for entry in json.loads(done.stdout)] == [entry["label"] for entry in wanted]
    shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("graph"))
    done = run(*command[:5], str(tmp_path / "bare"), *command[6:])
    assert done.returncode == 1
    assert "bare has no graphs, which is what runs without PyTorch: `spikeclip lower" in done.stderr
    assert "[train]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_lower_as_a_process(model, images, tmp_path):
    model, _ = model
    model.save_pretrained(tmp_path / "run" / "model")
    Image.fromarray(images[0]).save(tmp_path / "picture.png")
    spike = [sys.executable, "-m", "spikeclip"]
    ask = [
        *spike,
        "classify",
        str(tmp_path / "picture.png"),
        "--model",
        str(tmp_path / "run"),
        "--labels",
        "cat,dog",
    ]

    done = subprocess.run([*ask, "--engine", "int8"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "spikeclip lower" in done.stderr
    done = subprocess.run([*spike, "lower", str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*ask, "--engine", "int8"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"cat", "dog"} <= set(done.stdout.split())
    done = subprocess.run([*ask, "--engine", "int4"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "did you mean 'int8'" in done.stderr
    done = subprocess.run([*spike, "lower", str(tmp_path / "nowhere")], capture_output=True, text=True)
    assert done.returncode == 1
    assert "no such folder" in done.stderr
