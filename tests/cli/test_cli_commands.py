import dataclasses
import json
import math
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import spikeclip
from spikeclip import config
from spikeclip.cli.keys import field_docs, recipe_keys
from spikeclip.model import from_pretrained
from spikeclip.train.session import Interrupted

COMMANDS = (
    "train",
    "sweep",
    "ablate",
    "teacher",
    "convert",
    "evaluate",
    "classify",
    "index",
    "search",
    "serve",
    "interpolate",
    "lower",
    "verify",
    "energy",
    "data",
    "info",
    "cache",
    "demo",
)


def test_the_command_line_starts_without_heavy_libraries(process):
    code = (
        "import sys, spikeclip.cli;"
        "print({'torch', 'transformers', 'datasets', 'numpy', 'rich', 'accelerate'} & sys.modules.keys())"
    )
    assert process(code=code) == (0, "set()\n", "")


def test_help_and_version(command):
    assert command("--version") == (0, f"spikeclip {spikeclip.__version__}\n", "")
    code, out, error = command("--help")
    assert (code, error) == (0, "")
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert command() == (0, out, "")


def test_the_shell_completes_commands_and_options(process):
    for words, expected in (("spikeclip tr", "train"), ("spikeclip train --res", "--resume")):
        asked = {"_SPIKECLIP_COMPLETE": "complete_bash", "COMP_WORDS": words}
        assert process(**asked, COMP_CWORD=str(words.count(" "))) == (0, f"{expected}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_examples_of_its_own(name, command):
    code, out, _ = command(name, "--help")
    assert code == 0
    assert out.split("Examples:")[1].count(f"  spikeclip {name} ") + out.count(f"  spikeclip {name}\n") >= 2


def test_every_setting_is_listed_with_its_doc_and_what_it_takes(command):
    keys = {key.key: key for key in recipe_keys()}
    assert [name for name, key in keys.items() if not key.doc.endswith(".")] == []
    assert keys["seed"][1:] == (
        "0",
        "[int, between 0 and 4,294,967,295]",
        "Seed of weights, data order and augmentation.",
    )
    for field in dataclasses.fields(config.OptimizerConfig):
        assert f"stages.N.optimizer.{field.name}" in keys
    for field in dataclasses.fields(config.TextConfig):
        assert f"model.text.{field.name}" in keys
    assert {"data.source", "teacher.path", "model.neuron", "model.T", "model.pretrained"} <= keys.keys()
    assert keys["stages.N.stage"].default == keys["data.source"].default == "(required)"
    assert keys["stages.N.optimizer.kind"].takes == "[one of adamw, muon, adafactor]"
    assert keys["data.limit"].takes == "[int or null, between 1 and 1,000,000,000]"
    out = command("train", "--keys")[1]
    temperature = "stages.N.loss.temperature = 1.0\n    Temperature of both distributions"
    assert temperature in out
    after = out[out.index(temperature) :].split("\nstages.")[0]
    assert after.endswith("\n    [float, above 0 and at most 100]")


def test_every_number_of_a_recipe_has_a_range():
    free = [
        key.key
        for key in recipe_keys()
        if {"int", "float"} & set(key.takes.strip("[]").replace(",", " ").split()) and "," not in key.takes
    ]
    assert free == []


@pytest.mark.parametrize("cls", [value for value in vars(config).values() if dataclasses.is_dataclass(value)])
def test_every_field_has_a_doc(cls):
    assert list(field_docs(cls)) == [field.name for field in dataclasses.fields(cls)]


def test_info(command, folder):
    code, out, error = command("info", "run", "--layers")
    assert (code, error) == (0, "")
    facts = dict(line.strip().rsplit(None, 1) for line in out.splitlines() if len(line.split()) > 1)
    assert facts["neuron"] == "ilif"
    assert facts["embed dim"] == "16"
    assert facts["tokenizer"] == "yes"
    assert "image.groups.7" in out
    assert "text.blocks.0.attention.product_spike" in out
    assert command("info", str(folder / "run" / "model"))[0] == 0


def test_info_of_a_preset(command):
    code, out, _ = command("info", "spikeclip-tiny")
    assert code == 0
    assert "16,485,764" in out


def test_teacher_passes_on_what_was_given_and_spares_what_is_there(command, folder, monkeypatch):
    calls = []

    def train_teacher(pictures, validation, out_dir, settings, **options):
        calls.append((len(pictures), len(validation), str(out_dir), settings, options))
        return {"val_recall": 0.5, "history": []}

    monkeypatch.setitem(sys.modules, "spikeclip.train.teacher", SimpleNamespace(train_teacher=train_teacher))
    code, out, _ = command(
        "teacher", "train", "shapes", "--out", "teacher", "--limit", "600", "--epochs", "2", "--lr", "1e-3"
    )
    assert code == 0
    assert "val_recall" in out
    ((learned, held, out_dir, settings, options),) = calls
    assert learned + held == 600
    assert held > 0
    assert (out_dir, settings) == ("teacher", config.TeacherTraining(epochs=2, lr=1e-3))
    assert options == {"resume": False, "overwrite": False}
    code, _, error = command("teacher", "train", "shapes", "--out", "teacher", "--limit", "60")
    assert (code, len(calls)) == (1, 1)
    assert "leave none for validation: this needs more pictures, or a larger --val-fraction" in error
    code, _, error = command("teacher", "train", "shapes", "--out", "run/model")
    assert (code, error) == (1, "Error: run/model already holds a model: --overwrite replaces it\n")
    assert len(calls) == 1


def test_an_interrupted_teacher_says_how_to_go_on(command, monkeypatch):
    def stop(pictures, validation, out, settings, *, resume, overwrite):
        assert (out, settings, resume, overwrite) == (Path("t"), config.TeacherTraining(), True, False)
        raise Interrupted("stopped; continue with --resume")

    monkeypatch.setitem(sys.modules, "spikeclip.train.teacher", SimpleNamespace(train_teacher=stop))
    result = command("teacher", "train", "shapes", "--out", "t", "--limit", "600", "--resume")
    assert result == (130, "", "stopped; continue with --resume\n")


def test_demo_runs_where_it_is_told_and_prints_one_table(command, monkeypatch):
    folders = []

    def run_demo(out):
        folders.append(out)
        row = {"name": "spiking", "seen": 0.9, "held_out": 0.81, "mean_rate": 0.5, "seconds": 3.2}
        return {"networks": [row, {**row, "name": "relu", "mean_rate": None}]}

    monkeypatch.setitem(sys.modules, "spikeclip.studies.demo", SimpleNamespace(run_demo=run_demo))
    code, out, _ = command("demo")
    assert code == 0
    assert "81.00 %" in out and "0.5000" in out and "predictions.png" in out  # noqa: PT018
    assert command("demo", "--out", "elsewhere")[0] == 0
    assert folders == [Path("runs/demo"), Path("elsewhere")]


def test_train_shows_the_result_and_says_how_to_go_on(command, folder, monkeypatch):
    record = {
        "model": "m",
        "dataset": "d",
        "task": "zeroshot_classification",
        "metrics": {"acc1": 0.25, "acc5": math.nan},
        "spikes": None,
        "provenance": {"data": {"split": "test", "pictures": 4}},
    }
    (folder / "small.yaml").write_text("{data: {source: shapes}, stages: [{stage: contrastive, epochs: 1}]}")
    monkeypatch.setattr("spikeclip.train.run.train_run", lambda *given, **named: {"test": record})
    code, out, _ = command("train", "small.yaml", "seed=4")
    assert code == 0
    assert "25.00 %" in out
    assert "model: runs/small/model" in out
    monkeypatch.setattr("spikeclip.train.run.train_run", lambda *given, **named: {"test": None})
    code, out, _ = command("train", "small.yaml", "data.test_split=null")
    assert (code, out) == (0, "model: runs/small/model   result: runs/small/results.json\n")

    def stop(config, out, *, resume, overwrite):
        assert (config.seed, out, resume, overwrite) == (4, Path("x"), True, False)
        raise Interrupted("stopped; continue with --resume")

    monkeypatch.setattr("spikeclip.train.run.train_run", stop)
    result = command("train", "small.yaml", "seed=4", "--out", "x", "--resume")
    assert result == (130, "", "stopped; continue with --resume\n")


def test_evaluate_prints_a_table_and_writes_the_record(process, folder):
    arguments = ("evaluate", "run", "--data", "shapes", "--limit", "60", "--out", "records/r.json")
    code, out, error = process(*arguments, "--rename", "red circle=crimson disc")
    assert (code, error) == (0, "")
    record = json.loads((folder / "records" / "r.json").read_text())
    assert f"{100 * record['metrics']['acc1']:.2f} %" in out
    assert "records/r.json" in out
    assert record["pretrained"] == "run"
    assert record["provenance"]["prompts"]["classnames"][0] == "crimson disc"
    assert record["provenance"]["data"]["pictures"] == 60


def test_evaluate_retrieval_and_an_ensemble(command, folder):
    assert (
        command("evaluate", "run", "--data", "shapes", "--limit", "40", "--task", "zeroshot_retrieval")[0]
        == 0
    )
    metrics = json.loads((folder / "results.json").read_text())["metrics"]
    (folder / "results.json").unlink()
    assert "text_retrieval_recall@10" in metrics
    command(
        "evaluate",
        "run",
        "--data",
        "shapes",
        "--limit",
        "40",
        "--template",
        "a {c}",
        "--template",
        "{c}.",
        "--out",
        "e.json",
    )
    assert json.loads((folder / "e.json").read_text())["provenance"]["prompts"]["templates"] == [
        "a {c}",
        "{c}.",
    ]


def test_classify_one_picture_as_json_like_the_pipeline(command):
    code, out, _ = command(
        "classify", "pictures/one.png", "--model", "run", "--labels", "cat, dog ,truck", "--json"
    )
    result = json.loads(out)
    assert code == 0
    assert {entry["label"] for entry in result} == {"cat", "dog", "truck"}
    assert sum(entry["score"] for entry in result) == pytest.approx(1)
    assert [set(entry) for entry in result] == [{"score", "label"}] * 3


def test_classify_a_folder_names_and_counts_what_it_skips(process):
    arguments = (
        "classify",
        "pictures",
        "no.png",
        "--model",
        "run",
        "--prompts",
        "shapes",
        "--top",
        "2",
        "--json",
    )
    code, out, error = process(*arguments)
    assert code == 0
    result = json.loads(out)
    assert list(result) == ["pictures/inside/two.png", "pictures/one.png"]
    assert [len(ranked) for ranked in result.values()] == [2, 2]
    assert error.splitlines() == [
        "skipped no.png: no such picture",
        "skipped pictures/bad.jpg: damaged: Truncated File Read",
        "2 pictures classified, 2 skipped",
    ]


def test_classify_prints_the_best_first(command):
    code, out, _ = command("classify", "pictures/*.png", "--model", "run", "--labels", "a,b,c", "--top", "2")
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "pictures/one.png"
    shares = [float(line.split("%")[0]) for line in lines[1:]]
    assert len(shares) == 2
    assert shares == sorted(shares, reverse=True)


def test_nothing_readable_among_several(command):
    code, _, error = command("classify", "pictures/bad.jpg", "no.png", "--model", "run", "--labels", "a,b")
    assert code == 1
    assert error.splitlines()[-1] == "Error: none of the 2 pictures could be read"


def test_a_model_between_two_knows_what_it_was_trained_on(folder, command, tmp_path):
    out = tmp_path / "between"
    after = tmp_path / "after"
    shutil.copytree(folder / "run", after)
    (after / "recipe.json").write_text(json.dumps({"model": {}, "data": {"source": "shapes"}}))
    call = ("interpolate", "run", str(after), "--share", "0.3", "--out", str(out))
    assert command(*call) == (0, f"model: {out}\n", "")
    assert json.loads((out / "recipe.json").read_text())["data"] == {"source": "shapes"}
    assert from_pretrained(out).config == from_pretrained(after / "model").config
    code, _, said = command(*call)
    assert code == 1
    assert "--overwrite replaces it" in said
    code, _, said = command("interpolate", "run", "run", "--out", str(after))
    assert (code, "not empty and not a model" in said) == (1, True)
