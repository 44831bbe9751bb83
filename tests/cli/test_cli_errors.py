"""Every mistake is one line on stderr that starts with "Error:", and never a traceback."""

import json
import shutil

import pytest

CLASSIFY = ("--model", "run", "--labels", "red circle,blue bar")

RECIPE = """
data: {source: shapes}
stages:
  - {stage: contrastive, epochs: 1}
"""

# Arguments, exit code, what the line says. None of these imports PyTorch.
MISTAKES = {
    "unknown command": (["trian"], 2, "no such command 'trian'. Did you mean 'train'?"),
    "unknown command, nothing near": (["qqq"], 2, "no such command 'qqq' (see spikeclip --help)"),
    "unknown option": (["train", "r.yaml", "--resum"], 2, "no such option: --resum; did you mean --resume?"),
    "unknown option, nothing near": (
        ["info", "x", "--qqq"],
        2,
        "no such option: --qqq (see spikeclip info --help)",
    ),
    "missing argument": (["train"], 2, "missing argument 'RECIPE|FOLDER' (see spikeclip train --help)"),
    "value of the wrong kind": (
        ["classify", "x", *CLASSIFY, "--top", "many"],
        2,
        "'--top'",
    ),
    "missing recipe": (["train", "no.yaml"], 1, "no such recipe: no.yaml"),
    "near name of a built-in recipe": (["train", "cifar11"], 1, "did you mean 'cifar10', which is built in?"),
    "no number": (
        ["train", "cifar10", "stages.1.optimizer.lr=.nan"],
        1,
        "stages.1.optimizer.lr must be a number above 0 and at most 1,000, got nan",
    ),
    "recipe that is not YAML": (["train", "broken.yaml"], 1, "broken.yaml is not valid YAML"),
    "unknown key in a recipe": (["train", "key.yaml"], 1, "'epoch'; did you mean 'epochs'?"),
    "unknown key on the command line": (["train", "good.yaml", "sed=1"], 1, "'sed'; did you mean 'seed'?"),
    "unknown neuron": (["train", "good.yaml", "model.neuron=lfi"], 1, "did you mean 'lif'?"),
    "change without a value": (["train", "good.yaml", "seed"], 1, "expected key=value, got 'seed'"),
    "resume and overwrite": (["train", "good.yaml", "--resume", "--overwrite"], 1, "give one of them"),
    "missing picture": (["classify", "no.png", *CLASSIFY], 1, "no.png: no such picture"),
    "no labels at all": (["classify", "pictures", "--model", "run"], 1, "no labels to choose from"),
    "no labels": (["classify", "pictures", "--model", "run", "--labels", " "], 1, "no labels to choose from"),
    "labels twice over": (
        ["classify", "pictures", "--model", "run", "--labels", "a,b", "--prompts", "cifar10"],
        1,
        "labels from two places",
    ),
    "empty label": (["classify", "pictures", "--model", "run", "--labels", "a,,b"], 1, "an empty label"),
    "label twice": (["classify", "pictures", "--model", "run", "--labels", "a,b,A"], 1, "'A' is given twice"),
    "unknown prompts": (
        ["classify", "x", "--model", "run", "--prompts", "cifar11"],
        1,
        "did you mean 'cifar10'?",
    ),
    "empty recipe": (["train", " "], 1, "the name of the recipe is empty"),
    "unknown preset": (["info", "spikeclip-tin"], 1, "did you mean 'spikeclip-tiny'?"),
    "rename without a name": (
        ["evaluate", "run", "--data", "shapes", "--rename", "a"],
        1,
        "OLD=NEW, got 'a'",
    ),
}


def is_one_line(error: str) -> bool:
    return error.startswith("Error: ") and error.count("\n") == 1 and error.endswith("\n")


@pytest.fixture
def recipes(folder):
    (folder / "good.yaml").write_text(RECIPE)
    (folder / "key.yaml").write_text(RECIPE.replace("epochs", "epoch"))
    (folder / "broken.yaml").write_text("stages: [")


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_that_show_at_once(name, process, recipes):
    arguments, expected, message = MISTAKES[name]
    code, out, error = process(*arguments)
    assert (code, out) == (expected, "")
    assert is_one_line(error)
    assert message in error


def test_labels_that_the_terminal_cannot_show_do_not_stop_the_answer(process):
    labels = "red circle,\udcff bar,\u2603"
    code, out, error = process(
        "classify", "pictures/one.png", "--model", "run", "--labels", labels, PYTHONIOENCODING="ascii"
    )
    assert (code, error) == (0, "")
    assert "red circle" in out
    assert "\\u2603" in out


def test_unreadable_picture(process):
    code, out, error = process("classify", "pictures/bad.jpg", *CLASSIFY)
    assert (code, out) == (1, "")
    assert is_one_line(error)
    assert "pictures/bad.jpg: damaged: Truncated File Read" in error


def test_checkpoint_that_does_not_match_its_config(process, folder, tmp_path):
    broken = shutil.copytree(folder / "run" / "model", tmp_path / "broken")
    config = json.loads((broken / "config.json").read_text())
    config["image"]["widths"] = [8, 24]
    (broken / "config.json").write_text(json.dumps(config))
    code, out, error = process("info", str(broken))
    assert (code, out) == (1, "")
    assert is_one_line(error)
    assert (
        "does not match its configuration: "
        "image.groups.4.conv.weight is (16, 8, 3, 3), expected (24, 8, 3, 3)" in error
    )


def test_mistakes_in_a_model_folder(command, folder, tmp_path):
    code, _, error = command("info", str(tmp_path))
    assert code == 1
    assert is_one_line(error)
    assert "expected config.json in the folder" in error
    broken = shutil.copytree(folder / "run" / "model", tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"cut short")
    code, _, error = command("info", str(broken))
    assert code == 1
    assert is_one_line(error)
    assert "not a readable safetensors file" in error
    (broken / "config.json").write_text("{")
    assert is_one_line(command("info", str(broken))[2])
    assert "no such folder" in command("info", "no/such/folder")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nothing/here/at/all"], "nothing/here/at/all"),
        (["--data", "shapes", "--split", "tset"], "did you mean 'test'?"),
        (["--data", "shapes", "--task", "retrieval"], "unknown task 'retrieval'"),
        (["--data", "shapes", "--template", "a photo"], "lacks {c}"),
        (["--data", "shapes", "--prompts", "cifar10"], "have 10 classes, shapes has 64"),
        (["--data", "shapes", "--prompts", "shapes", "--template", "a {c}"], "leave out --template"),
        (["--data", "shapes", "--rename", "rde circle=x"], "did you mean 'red circle'?"),
        (["--data", "shapes", "--out", "pictures"], "pictures is a folder"),
    ],
)
def test_mistakes_in_an_evaluation(arguments, message, command, folder):
    code, out, error = command("evaluate", "run", "--limit", "40", "--cache", "cache", *arguments)
    assert (code, out) == (1, "")
    assert error.splitlines()[-1].startswith("Error: ")
    assert message in error.splitlines()[-1]
    assert "Traceback" not in error
    assert not (folder / "results.json").exists()


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["info", "run"], "this needs torch, which is not installed"),
        (["train", "good.yaml"], "this needs torch, which is not installed"),
        (["classify", "pictures", *CLASSIFY], "run has no graphs, which is what runs without PyTorch"),
    ],
)
def test_without_pytorch_the_missing_extra_is_named(arguments, missing, process, recipes):
    code = "import sys; sys.modules['torch'] = None; from spikeclip.cli import main; main(sys.argv[1:])"
    status, out, error = process(*arguments, code=code)
    assert (status, out) == (1, "")
    assert is_one_line(error)
    assert error.startswith(f"Error: {missing}")
    assert error.endswith("[train]'\n")


def test_ctrl_c_exits_with_130(command, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("spikeclip.encode.pictures.find_pictures", interrupt)
    assert command("classify", "pictures", *CLASSIFY) == (130, "", "Interrupted.\n")


def test_a_defect_is_one_line_too_and_a_traceback_when_asked(command, monkeypatch):
    def fail(*arguments):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("spikeclip.encode.pictures.find_pictures", fail)
    code, _, error = command("classify", "pictures", *CLASSIFY)
    assert code == 1
    assert is_one_line(error)
    assert "ZeroDivisionError: division by zero (SPIKECLIP_DEBUG=1 shows where" in error
    monkeypatch.setenv("SPIKECLIP_DEBUG", "1")
    error = command("classify", "pictures", *CLASSIFY)[2]
    assert error.startswith("Traceback")
    assert error.splitlines()[-1].startswith("Error: ZeroDivisionError")


def test_output_that_nobody_reads(folder, process):
    code = (
        "import os, subprocess, sys;"
        "read, write = os.pipe(); os.close(read);"
        "command = [sys.executable, '-m', 'spikeclip', 'train', '--keys'];"
        "done = subprocess.run(command, stdout=write, stderr=-1);"
        "print(done.returncode, done.stderr.decode())"
    )
    _, out, _ = process(code=code)
    assert "Traceback" not in out
    assert "Error" not in out


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 6 bytes"),
    ],
)
def test_too_little_memory_is_a_mistake_of_the_input(error):
    from spikeclip.cli import explain

    message, code = explain(error)
    assert message.startswith("not enough memory")
    assert code == 1
