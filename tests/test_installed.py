"""The package where it is installed: folders that cannot be written, extras that are missing, what it leaves behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import spikeclip
from spikeclip.data.tokenizer import Tokenizer
from spikeclip.engine import Runtime
from spikeclip.engine import choice as choice_module
from spikeclip.errors import install_hint, missing_extra
from spikeclip.graph.saved import save_graphs

CLI = "from spikeclip.cli import main; main(sys.argv[1:])"


@pytest.fixture(scope="module")
def place():
    """A folder that everyone may read, with a saved model, its graphs, and a picture."""
    from spikeclip import create_model

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        tokenizer = Tokenizer.train(["a red star"], 300)
        text = {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id, "width": 16, "depth": 1}
        model = create_model(
            "spikeclip-tiny", embed_dim=16, image={"widths": [8, 16]}, text={**text, "num_heads": 2}
        )
        model.tokenizer = tokenizer
        model.eval().save_pretrained(folder / "model")
        save_graphs(model, folder / "model")
        model.save_pretrained(folder / "bare")
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / "picture.png")
        yield folder


def python(code, *arguments, **environment):
    """Run code as a process; returns (exit code, stdout, stderr)."""
    kept = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    command = [sys.executable, "-c", f"import os, sys\n{code}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**kept, **environment}, cwd="/")
    return done.returncode, done.stdout, done.stderr


def classify(place, *more):
    return ("classify", place / "picture.png", "--model", place / "model", "--labels", "star,ring", *more)


@pytest.fixture
def read_only(tmp_path):
    """The package in a folder that nobody can write to, the superuser included."""
    folder = tmp_path / "installed"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a disk that cannot be written cannot be mounted here: {mounted.stderr.strip()}")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(spikeclip.__file__).parent, folder / "spikeclip", ignore=ignore)
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_an_installation_that_cannot_be_written_by_a_user_without_a_home(place, read_only, tmp_path):
    where = {"PYTHONPATH": str(read_only), "HOME": "/proc/nobody", "TMPDIR": str(tmp_path)}
    where["XDG_CACHE_HOME"] = "/proc/nobody/cache"
    code, out, error = python(CLI, *classify(place, "--engine", "int8", "--json"), **where)
    assert code == 0, error
    assert {entry["label"] for entry in json.loads(out)} == {"star", "ring"}
    assert error.count("compiling the engine") == 1
    assert "kept for later starts" in error
    (kept,) = tmp_path.glob("spikeclip-*")
    assert kept.stat().st_mode & 0o777 == 0o700
    assert python(CLI, *classify(place, "--engine", "int8", "--json"), **where) == (0, out, "")
    neuron = "import spikeclip, torch; print(spikeclip.LIF()(torch.full((1, 3), 9.0)).sum().item())"
    assert python(neuron, **where) == (0, "3.0\n", "")
    kept.chmod(0o777)  # others may have left code in it: none of it is run
    before = sorted(file.stat().st_mtime for file in kept.rglob("*"))
    run = "import spikeclip.engine.run; from spikeclip.engine.threads import KERNELS\n"
    run += "print(KERNELS['levels_of'].is_ready()); KERNELS['levels_of'].compile()"
    assert python(run, **where) == (0, "False\n", "")
    assert sorted(file.stat().st_mtime for file in kept.rglob("*")) == before


@pytest.mark.parametrize("modules", [("numba", "llvmlite"), ("llvmlite",)])
def test_a_neuron_without_numba_names_the_extra(modules):
    block = "".join(f"sys.modules[{name!r}] = None\n" for name in modules)
    neuron = "import spikeclip, torch\ntry: spikeclip.LIF()(torch.ones(2, 3))\n"
    neuron += "except spikeclip.InputError as error: print(error)"
    code, out, error = python(block + neuron, PYTHONPATH=str(Path(spikeclip.__file__).parents[1]))
    assert (code, error) == (0, "")
    assert "which is not installed: pip install -c " in out
    assert "[runtime]'" in out


# A signal that comes while LLVM compiles is seen by the first Python that LLVM calls.
STOPPED = """import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # what starts in the background ignores it
from numba.core.codegen import CPUCodeLibrary
compiled = CPUCodeLibrary._object_compiled_hook
def stop(*about):
    signal.raise_signal(signal.SIGINT)
    compiled(*about)
CPUCodeLibrary._object_compiled_hook = staticmethod(stop)
"""
IMPORTING = """import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
class Stop:
    def find_spec(self, name, *about):
        if name == "typer":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Stop())
from spikeclip.__main__ import main; main()
"""


def test_ctrl_c_while_kernels_compile_and_while_the_command_line_is_imported(place, tmp_path):
    where = {"PYTHONPATH": str(Path(spikeclip.__file__).parents[1]), "NUMBA_CACHE_DIR": str(tmp_path)}
    code, out, error = python(STOPPED + CLI, *classify(place, "--engine", "int8"), **where)
    assert (code, out) == (130, "")
    said = error.splitlines()
    assert said[0].startswith("compiling")
    assert said[1:] == ["Interrupted."]
    assert python(IMPORTING, "--help", **where) == (130, "", "Interrupted.\n")


WITHOUT = {
    "classify on the engine": (("numba",), ("--engine", "int8"), "[runtime]'"),
    "classify of graphs": (("torch", "numba"), (), "[runtime]'"),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_a_missing_extra_is_one_line(name, place):
    modules, more, extra = WITHOUT[name]
    block = "".join(f"sys.modules[{module!r}] = None\n" for module in modules)
    code, out, error = python(
        block + CLI, *classify(place, *more), PYTHONPATH=str(Path(spikeclip.__file__).parents[1])
    )
    assert (code, out) == (1, "")
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert extra in error


def test_without_pytorch_graphs_answer_and_a_model_without_them_is_told_what_to_do(place):
    path = {"PYTHONPATH": str(Path(spikeclip.__file__).parents[1])}
    block = "sys.modules['torch'] = None\n"
    code, out, error = python(block + CLI, *classify(place), **path)
    assert code == 0, error
    assert "star" in out
    arguments = [place / "bare" if part == place / "model" else part for part in classify(place)]
    code, out, error = python(block + CLI, *arguments, **path)
    assert code == 1
    assert f"`spikeclip lower {place / 'bare'}` makes them on a machine that has it" in error
    assert "[train]'" in error


def test_hints_name_what_exists(monkeypatch):
    checkout = Path(spikeclip.__file__).resolve().parents[2]
    if not (checkout / "pyproject.toml").is_file():
        pytest.skip("not run from a checkout")
    monkeypatch.chdir(checkout)
    assert install_hint("train") == "pip install -c constraints.txt '.[train]'"
    monkeypatch.chdir("/")
    assert str(missing_extra("onnx")).endswith(
        f"pip install -c {checkout}/constraints.txt '{checkout}[onnx]'"
    )
    monkeypatch.setattr("spikeclip.errors._installed_from", lambda: None)
    assert str(missing_extra("torch")).endswith("pip install 'spikeclip[train]'")


def test_only_caches_of_ours_are_left_in_the_home_folder(place, tmp_path):
    pytest.importorskip("onnxruntime")
    path = {"PYTHONPATH": str(Path(spikeclip.__file__).parents[1]), "HOME": str(tmp_path)}
    sixteen = ",".join(map(str, range(16)))  # fewer are not measured
    code, _, error = python(CLI, *classify(place, "--engine", "int8", "--labels", sixteen), **path)
    assert code == 0, error
    left = {str(file.relative_to(tmp_path).parent) for file in tmp_path.rglob("*") if file.is_file()}
    assert left == {".cache/spikeclip/engine"}


DAMAGES = [
    b"",
    b'{"den',
    b"[]",
    b'{"dense": 3}',
    b'{"dense": [1]}',
    b'{"dense": "conv"}',
    b"\xff",
    b"[" * 100_000,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: repr(damage[:12]))
def test_a_damaged_choice_is_made_anew(damage, place, tmp_path, monkeypatch):
    monkeypatch.setattr(choice_module, "FOLDER", tmp_path)
    choice_module.save_choice("key", {"conv"})
    assert choice_module.load_choice("key") == ["conv"]
    (tmp_path / "key.json").write_bytes(damage)
    assert choice_module.load_choice("key") is None


def test_layers_that_a_network_lacks_are_no_choice(place, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(choice_module, "FOLDER", tmp_path)
    images = np.zeros((16, 32, 32, 3), np.uint8)
    expected = Runtime.from_pretrained(place / "model").encode_image(images)
    (file,) = tmp_path.iterdir()
    file.write_text('{"dense": ["no such layer"]}')
    assert np.allclose(Runtime.from_pretrained(place / "model").encode_image(images), expected, atol=1e-5)
    assert "no such layer" not in file.read_text()


def test_damaged_kernels_on_disk_are_compiled_anew(tmp_path):
    path = {"PYTHONPATH": str(Path(spikeclip.__file__).parents[1]), "NUMBA_CACHE_DIR": str(tmp_path)}
    run = "import spikeclip.engine.run; from spikeclip.engine.threads import KERNELS\n"
    run += "kernel = KERNELS['levels_of']; print(kernel.is_ready()); kernel.compile()"
    assert python(run, **path)[:2] == (0, "False\n")
    assert python(run, **path)[:2] == (0, "True\n")
    for ending, cut in (("nbi", 0), ("nbi", 30), ("nbc", 0), ("nbc", 100)):
        for file in tmp_path.rglob(f"*.{ending}"):
            file.write_bytes(file.read_bytes()[:cut])
        code, _, error = python(run, **path)
        assert (code, error) == (0, "")
        assert python(run, **path)[:2] == (0, "True\n")


def test_killed_while_it_saves_its_choice(place, tmp_path):
    """What a kill leaves is no choice or the whole one, and the answer afterwards is the undisturbed one."""
    save = "from spikeclip.engine import choice\nfrom pathlib import Path\n"
    save += "choice.FOLDER = Path(sys.argv[1])\nprint('go', flush=True)\n"
    save += "names = [f'layer {i}' for i in range(20_000)]\nwhile True: choice.save_choice('key', names)"
    path = {"PYTHONPATH": str(Path(spikeclip.__file__).parents[1])}
    wait = np.random.default_rng(0).uniform(0, 0.1, 20)
    command = [sys.executable, "-c", f"import sys\n{save}", str(tmp_path)]
    for seconds in wait:
        running = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **path})
        assert running.stdout is not None
        running.stdout.readline()
        time.sleep(seconds)
        running.send_signal(signal.SIGKILL)
        running.wait()
        running.stdout.close()
        found = json.loads((tmp_path / "key.json").read_text()) if (tmp_path / "key.json").exists() else None
        assert found is None or len(found["dense"]) == 20_000
