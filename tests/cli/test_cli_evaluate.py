"""Several models and data sets in one call."""

import json
import shutil

import pytest


@pytest.fixture
def second(folder):
    if not (folder / "second").exists():
        shutil.copytree(folder / "run", folder / "second")
    return "second"


def test_models_side_by_side_with_a_figure(command, folder, second):
    arguments = (
        "--data",
        "shapes",
        "--limit",
        "40",
        "--task",
        "expanded_labels",
        "--task",
        "zeroshot_retrieval",
        "--seeds",
        "2",
        "--out",
        "els.json",
    )
    code, out, _ = command("evaluate", "run", second, *arguments)
    assert code == 0
    assert "(+0.00)" in out
    assert "not known" in out  # a model without a recipe
    result = json.loads((folder / "els.json").read_text())
    made = [(record["pretrained"], record["task"]) for record in result["records"]]
    assert made == [(m, t) for m in ("run", second) for t in ("zeroshot_retrieval", "expanded_labels")]
    assert all(row["changes"] == {"run": 0, second: 0} for row in result["comparison"])
    assert (folder / "els-expanded_labels.png").read_bytes().startswith(b"\x89PNG")


def test_data_sets_side_by_side(command, folder):
    small = folder / "small" / "test"
    for name in ("crimson", "azure"):
        (small / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "pictures" / "one.png", small / name / "1.png")
    sources = (
        "--data",
        "shapes",
        "--data",
        "small",
        "--limit",
        "40",
        "--cache",
        "cache",
        "--out",
        "side.json",
    )
    assert command("evaluate", "run", *sources, "--rename", "azure=blue")[0] == 0
    first, other = json.loads((folder / "side.json").read_text())["records"]
    assert (first["dataset"], other["dataset"]) == ("shapes", "small")
    assert other["provenance"]["prompts"]["classnames"] == ["blue", "crimson"]
    code, _, error = command("evaluate", "run", *sources, "--rename", "azur=dog")
    assert (code, error) == (1, "Error: unknown class of shapes and small 'azur'; did you mean 'azure'?\n")
    code, _, error = command("evaluate", "run", *sources, "--prompts", "shapes")
    assert (code, "--prompts names the classes of one data set" in error) == (1, True)


def test_a_folder_without_a_test_split_says_which_option_names_another(command, folder):
    for name in ("1", "2"):
        (folder / "flat" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "pictures" / "one.png", folder / "flat" / name / "1.png")
    commands = (
        ("evaluate", "run", "--data", "flat"),
        ("energy", "run", "--data", "flat"),
        ("data", "show", "flat"),
    )
    for arguments in commands:
        code, _, error = command(*arguments, "--cache", "cache")
        assert (code, error) == (1, "Error: flat has no split 'test'; found: train; add --split train\n")
    arguments = (
        "evaluate",
        "run",
        "--data",
        "flat",
        "--cache",
        "cache",
        "--split",
        "train",
        "--out",
        "flat.json",
    )
    code, _, error = command(*arguments, "--task", "few_shot", "--train-split", "learn")
    assert (code, error) == (1, "Error: flat has no split 'learn'; found: train; add --train-split train\n")
    code, _, error = command(*arguments, "--task", "expanded_labels", "--task", "zeroshot_classification")
    assert code == 0
    assert error.count("class names are numbers") == 1


def test_a_result_is_replaced_with_a_word_and_nothing_else_is(command, folder, second):
    arguments = ("--data", "shapes", "--limit", "40", "--out", "kept.json")
    assert command("evaluate", "run", *arguments)[::2] == (0, "")
    assert command("evaluate", "run", *arguments)[::2] == (0, "")
    code, _, error = command("evaluate", second, *arguments)
    told = "kept.json holds the result of run on shapes; that of second on shapes will replace it"
    assert (code, error) == (0, f"Warning: {told}\n")
    for text in ("my thesis", json.dumps({"stages": [], "test": None})):
        (folder / "kept.json").write_text(text)
        code, _, error = command("evaluate", "run", *arguments)
        assert (code, error.count("\n")) == (1, 1)
        assert "kept.json exists and is no result of this command: --out names another" in error
        assert (folder / "kept.json").read_text() == text


def test_a_table_in_a_pipe_has_a_line_for_each_row(process, folder, second):
    long = f"{'a-long-name-' * 15}model"
    if not (folder / long).exists():
        shutil.copytree(folder / "run", folder / long)
    code, out, _ = process("evaluate", "run", long, "--data", "shapes", "--limit", "40", "--out", "long.json")
    assert code == 0
    title, columns = (line for line in out.splitlines() if "run" in line)
    assert title == "in brackets, points against run"
    assert columns.split() == ["data", "task", "metric", "run", long]
    (row,) = (line for line in out.splitlines() if "acc5" in line)
    assert row.split()[-1] == "(+0.00)"
