"""The demo replaces an earlier one, removes nothing else, and is alone in its folder."""

import pytest

from spikeclip.errors import InputError, Interrupted
from spikeclip.studies import demo
from spikeclip.train.folder import locked


@pytest.fixture
def started(monkeypatch):
    """Demos that came as far as the training of a teacher, which stops as by Ctrl-C."""
    started = []

    def train_teacher(pictures, validation, out, *given, **named):
        started.append(
            sorted(str(file.relative_to(out.parent)) for file in out.parent.rglob("*") if file.is_file())
        )
        raise Interrupted("of the teacher")

    monkeypatch.setattr(demo, "train_teacher", train_teacher)
    return started


def test_an_earlier_demo_is_replaced(started, tmp_path):
    files = [
        "results.json",
        "model/config.json",
        "model/graph/image.json",
        "spiking/checkpoint.pt",
        "relu/recipe.json",
    ]
    files += ["teacher/model.safetensors", "teacher/log/metrics.jsonl", "teacher.training/checkpoint.pt"]
    files += ["spiking/tensorboard/0-align_text/events.out.tfevents.1", ".teacher.77.new/config.json"]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("of an earlier demo")
    with pytest.raises(Interrupted, match="stopped; the same command starts anew"):
        demo.run_demo(tmp_path)
    assert started == [[".lock"]]


@pytest.mark.parametrize(
    "name", ["thesis.txt", "spiking/thesis.txt", "model/photos/cat.jpg", "teacher/log/notes.md"]
)
def test_what_no_demo_wrote_is_spared(name, started, tmp_path):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("three years")
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(InputError, match=f"holds '{name}', which no demo wrote: choose another --out"):
        demo.run_demo(tmp_path)
    assert (tmp_path / name).read_text() == "three years"
    assert (tmp_path / "results.json").is_file()
    assert not started


def test_a_running_demo_is_not_replaced(started, tmp_path):
    (tmp_path / "results.json").write_text("{}")
    with locked(tmp_path, "demo"), pytest.raises(InputError, match="trains in"):
        demo.run_demo(tmp_path)
    assert (tmp_path / "results.json").is_file()
    assert not started
