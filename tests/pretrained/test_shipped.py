"""The models that come with the package: files, memory of what they are, and pictures they name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import spikeclip
from spikeclip.encode.student import Student
from spikeclip.errors import InputError
from spikeclip.pretrained import shipped as registry
from spikeclip.pretrained.shipped import Shipped, shipped, shipped_folder

MATPLOTLIB = pytest.importorskip("matplotlib", reason="matplotlib (extra train) is not installed")
PORTRAIT = Path(MATPLOTLIB.__file__).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
LABELS = "military uniform,dog,flower,car,pizza"


def test_the_registry_names_every_file_and_says_what_it_is():
    assert spikeclip.list_pretrained() == ["spikeclip-lite0"]
    for name, model in shipped().items():
        files = {str(path.relative_to(model.folder)) for path in model.folder.rglob("*") if path.is_file()}
        assert files == set(model.files)
        assert shipped_folder(name) == model.folder
        assert all([model.licence, model.sources, model.training, model.made_by])
    folders = registry.HERE / "weights"
    assert sum(path.stat().st_size for path in folders.rglob("*") if path.is_file()) < 12e6


def test_a_changed_file_is_refused(monkeypatch):
    model = shipped()["spikeclip-lite0"]
    changed = Shipped(**{**vars(model), "files": {**model.files, "config.json": "0" * 64}})
    monkeypatch.setattr(registry, "shipped", lambda: {model.name: changed})
    with pytest.raises(InputError, match=r"config\.json was changed, so it is not spikeclip-lite0 any more"):
        shipped_folder.__wrapped__(model.name)


FORBIDDEN = """
def refuse(event, values):
    if event in ("os.fork", "socket.connect", "subprocess.Popen") and sys.modules.get("spikeclip.engine.whole"):
        sys.stderr.write(f"REFUSED {event}\\n")
sys.addaudithook(refuse)
"""


def run(*arguments, block=(), before=""):
    code = (
        f"import runpy, sys\nsys.modules |= dict.fromkeys({list(block)!r})\n{before}\n"
        f"sys.argv = {['spikeclip', *map(str, arguments)]!r}\nrunpy.run_module('spikeclip', run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("block", [(), ("torch",)])
def test_info_is_of_what_ships(block):
    result = run("info", "spikeclip-lite0", block=block)
    assert result.returncode == 0, result.stderr
    assert "vocab size" in result.stdout
    assert " 8000 " in result.stdout


@pytest.mark.parametrize("block", [(), ("torch",), ("torch", "openvino", "onnxruntime")])
def test_a_photograph_is_named_without_training_anything(block):
    result = run("classify", PORTRAIT, "--labels", LABELS, "--json", block=block)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)[0]["label"] == "military uniform"
    assert "Traceback" not in result.stderr


def test_naming_a_photograph_asks_no_other_machine():
    result = run("classify", PORTRAIT, "--labels", LABELS, block=("torch",), before=FORBIDDEN)
    assert result.returncode == 0, result.stderr
    assert "REFUSED" not in result.stderr


def test_the_model_in_pytorch_is_the_one_on_the_engine():
    model, encoder = spikeclip.from_pretrained("spikeclip-lite0"), spikeclip.open_encoder("spikeclip-lite0")
    student = Student(model)
    for ours, theirs in (
        (student.encode_image([PORTRAIT]), encoder.encode_image([PORTRAIT])),
        (student.encode_text(["a photo of a cat."]), encoder.encode_text(["a photo of a cat."])),
    ):
        assert float((ours * theirs).sum()) > 0.95  # levels on an edge fall to either side
    assert student.logit_scale == pytest.approx(encoder.logit_scale)
