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
        "two.json",
    )
    assert command("evaluate", "run", *sources, "--rename", "azure=blue")[0] == 0
    first, other = json.loads((folder / "two.json").read_text())["records"]
    assert (first["dataset"], other["dataset"]) == ("shapes", "small")
    assert other["provenance"]["prompts"]["classnames"] == ["blue", "crimson"]
    code, _, error = command("evaluate", "run", *sources, "--rename", "azur=dog")
    assert (code, error) == (1, "Error: unknown class of shapes and small 'azur'; did you mean 'azure'?\n")
    code, _, error = command("evaluate", "run", *sources, "--prompts", "shapes")
    assert (code, "--prompts names the classes of one data set" in error) == (1, True)
