"""What one command accepts as MODEL, every command accepts: a run, a model folder, a hub name, with the engine too."""

import json
import shutil

import pytest

from spikeclip.config import TeacherTraining, model_config
from spikeclip.data.shapes import shapes
from spikeclip.graph.saved import save_graphs
from spikeclip.model import SpikeCLIP, from_pretrained
from spikeclip.train.teacher import train_teacher

KINDS = {"run": "run", "folder": "run/model", "hub": "owner/model", "graphs": "lowered"}
SHAPES = ("--data", "shapes", "--limit", "40", "--cache", "cache")
COMMANDS = {
    "classify": ("classify", "pictures/one.png", "--labels", "red circle,blue bar", "--model", "MODEL"),
    "evaluate": ("evaluate", "MODEL", *SHAPES, "--out", "kinds.json"),
    "energy": ("energy", "MODEL", *SHAPES, "--out", "kinds-energy"),
    "verify": ("verify", "MODEL", "--limit", "2", "--cache", "cache"),
    "info": ("info", "MODEL"),
    "interpolate": ("interpolate", "MODEL", "MODEL", "--overwrite", "--out", "kinds-between"),
    "lower": ("lower", "MODEL"),
    "train": ("train", "kinds.yaml", "model.pretrained=MODEL", "--overwrite", "--out", "kinds-run"),
}
DEVICE = ("classify", "evaluate", "energy", "verify")
"""What a device does with graphs and a tokenizer alone."""
ON_THE_ENGINE = ("classify", "evaluate")
RECIPE = """
model: {}
data: {source: shapes, limit: 640, val_fraction: 0.5, test_split: null, cache: cache}
stages: [{stage: contrastive, epochs: 1, batch_size: 8}]
"""


@pytest.fixture(autouse=True)
def no_earlier_results(folder):
    """A result of another model is replaced with a warning."""
    (folder / "kinds.json").unlink(missing_ok=True)
    shutil.rmtree(folder / "kinds-energy", ignore_errors=True)


@pytest.fixture
def models(folder, monkeypatch):
    """Models of every kind in `folder`; the hub hands out a copy."""
    if not (folder / "lowered").exists():
        shutil.copytree(folder / "run" / "model", folder / "lowered")
        save_graphs(from_pretrained(folder / "lowered"), folder / "lowered")
        shutil.copytree(folder / "lowered", folder / "snapshot")
        shutil.copytree(folder / "lowered" / "graph", folder / "device" / "graph")
        shutil.copy(folder / "lowered" / "tokenizer.json", folder / "device")
    (folder / "kinds.yaml").write_text(RECIPE)

    def download(name, **options):
        assert name == "owner/model"
        return str(folder / "snapshot")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)


def call(name, kind, *more):
    return [part.replace("MODEL", KINDS[kind]) for part in (*COMMANDS[name], *more)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_every_kind_of_model(name, kind, command, models, folder):
    code, out, error = command(*call(name, kind))
    assert code == 0, error
    assert name == "train" or out
    shutil.rmtree(folder / "run" / "model" / "graph", ignore_errors=True)  # other tests have none there


@pytest.mark.parametrize("kind", ["hub", "graphs"])
@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("name", ON_THE_ENGINE)
def test_the_engine_runs_every_kind_that_has_graphs(name, precision, kind, command, models, folder):
    code, out, error = command(*call(name, kind, "--engine", precision))
    assert (code, error) == (0, "")
    assert out
    if name == "evaluate":
        record = json.loads((folder / "kinds.json").read_text())
        assert record["provenance"]["precision"] == f"engine {precision}"
        command(*call(name, kind))
        plain = json.loads((folder / "kinds.json").read_text())
        assert record["metrics"]["acc1"] == pytest.approx(plain["metrics"]["acc1"], abs=0.051)
        assert record["spikes"]["rates"].keys() == plain["spikes"]["rates"].keys()
        assert record["spikes"]["mean_rate"] == pytest.approx(plain["spikes"]["mean_rate"], rel=0.05)
        assert record["provenance"]["config"] == plain["provenance"]["config"]
        same = record["provenance"]["fingerprint"] == plain["provenance"]["fingerprint"]
        assert same == (precision == "fp32")


@pytest.mark.parametrize("name", DEVICE)
def test_graphs_and_tokenizer_are_enough_with_pytorch_and_without(name, command, process, models, folder):
    arguments = [part.replace("MODEL", "device") for part in COMMANDS[name]]
    code, out, error = command(*arguments)
    assert (code, error) == (0, "")
    blocked = "import sys; sys.modules['torch'] = None; from spikeclip.cli import main; main(sys.argv[1:])"
    assert process(*arguments, code=blocked) == (0, out, "")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A CLIP of Hugging Face's kind."""
    pictures = shapes("train", 60)
    settings = TeacherTraining(width=32, layers=1, epochs=1, batch_size=30)
    out = tmp_path_factory.mktemp("teacher") / "clip"
    train_teacher(pictures, shapes("test", 30), out, settings, quiet=True)
    return str(out)


@pytest.mark.parametrize("name", ["classify", "evaluate"])
def test_a_teacher_is_a_model_too(name, command, models, teacher):
    arguments = [part.replace("MODEL", teacher) for part in COMMANDS[name]]
    code, out, error = command(*arguments)
    assert (code, error) == (0, "")
    assert out
    code, _, error = command(*arguments, "--engine", "int8")
    assert (code, "is a teacher: the engine runs spiking networks" in error) == (1, True)


def test_a_teacher_counts_and_embeds(command, models, teacher, folder):
    code, _, error = command(*call("energy", "run", "--teacher", teacher))
    assert code == 0, error
    assert (
        f"teacher, {teacher}"
        in json.loads((folder / "kinds-energy" / "energy.json").read_text())["energy"]["total"]["joules"]
    )
    code, _, error = command(
        "teacher", "embed", teacher, *SHAPES, "--split", "test", "--out", "kinds.npz", "--overwrite"
    )
    assert code == 0, error
    code, _, error = command(*[part.replace("MODEL", "kinds.npz") for part in COMMANDS["classify"]])
    assert (code, "embeds text only" in error) == (1, True)


@pytest.mark.parametrize("name", ON_THE_ENGINE)
def test_the_engine_says_what_makes_the_graphs(name, command, models):
    code, _, error = command(*call(name, "folder", "--engine", "int8"))
    assert code == 1
    assert "run/model holds no graphs; `spikeclip lower run/model` makes them" in error


@pytest.mark.parametrize("name", DEVICE)
def test_without_pytorch_the_engine_runs_by_itself(name, process, models):
    code = "import sys; sys.modules['torch'] = None; from spikeclip.cli import main; main(sys.argv[1:])"
    status, out, error = process(*call(name, "graphs"), code=code)
    assert (status, error) == (0, "")
    assert process(*call(name, "graphs"))[1] == out


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "train"])
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "nowhere"),
        ("no/such/folder", "no such folder: 'no/such/folder'"),
        ("pictures", "pictures is not a model: expected config.json in the folder"),
        ("stopped", "the run in stopped has not finished"),
    ],
)
def test_what_is_no_model_is_one_line_everywhere(name, source, message, command, models, folder):
    (folder / "stopped").mkdir(exist_ok=True)
    (folder / "stopped" / "recipe.json").write_text("{}")
    arguments = [part.replace("MODEL", source) for part in COMMANDS[name]]
    code, out, error = command(*arguments)
    assert (code, out) == (1, "")
    assert error.startswith("Error: ") and error.count("\n") == 1  # noqa: PT018
    assert message in error


def test_changed_graphs_are_one_line_that_says_what_to_do(command, models, folder):
    shutil.copytree(folder / "lowered", folder / "changed", dirs_exist_ok=True)
    file = folder / "changed" / "graph" / "image.json"
    file.write_text(file.read_text().replace('"tau": 2.0', '"tau": 3.0'))
    arguments = [part.replace("MODEL", "changed") for part in COMMANDS["classify"]]
    expected = "changed/graph was changed after `spikeclip lower`; run `spikeclip lower changed` again"
    for more in ([], ["--engine", "fp32"], ["--engine", "int8"]):
        code, out, error = command(*arguments, *more)
        if more:
            assert (code, out, error) == (1, "", f"Error: {expected}\n")
        else:  # PyTorch runs the weights themselves
            assert code == 0, error
    for name in ("verify", "energy"):
        code, _, error = command(*[part.replace("MODEL", "changed") for part in COMMANDS[name]])
        assert (code, error) == (1, f"Error: {expected}\n")
    assert command("lower", "changed")[0] == 0
    assert command(*arguments, "--engine", "int8")[0] == 0


def test_lower_follows_no_link_out_of_a_folder(command, models, folder):
    shutil.copytree(folder / "run" / "model", folder / "linked", dirs_exist_ok=True)
    shutil.rmtree(folder / "linked" / "graph", ignore_errors=True)
    (folder / "elsewhere").mkdir()
    (folder / "linked" / "graph").symlink_to(folder / "elsewhere")
    code, out, error = command("lower", "linked")
    assert (code, out) == (1, "")
    assert error.startswith("Error: linked/graph is a symbolic link, to ")
    (folder / "run-of-links").mkdir()
    (folder / "run-of-links" / "model").symlink_to(folder / "linked")
    code, out, error = command("lower", "run-of-links")
    assert (code, out) == (1, "")
    assert error.startswith("Error: run-of-links/model is a symbolic link, to ")
    assert not list((folder / "elsewhere").iterdir())


def test_verify_says_of_a_relu_twin_that_it_has_no_spikes(command, tmp_path):
    text = {"vocab_size": 300, "eos_id": 1, "width": 16, "depth": 1, "num_heads": 2}
    config = model_config(
        "spikeclip-tiny", neuron="relu", T=1, embed_dim=16, image={"widths": [8, 16]}, text=text
    )
    SpikeCLIP(config).save_pretrained(tmp_path / "twin")
    told = f"{tmp_path / 'twin'} is an ordinary (ReLU) network without spikes: there is nothing to verify"
    assert command("verify", str(tmp_path / "twin")) == (1, "", f"Error: {told}\n")


def test_the_list_of_commands_cuts_no_sentence(command):
    assert "..." not in command("--help")[1].partition("Commands:")[2].partition("Examples:")[0]
