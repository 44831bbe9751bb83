"""An ablation trains every different recipe once, goes on where it stopped and says what is missing."""

import json

import pytest
import yaml

from spikeclip.cli import main
from spikeclip.errors import InputError
from spikeclip.studies import grid
from spikeclip.studies.ablate import ablation_figure, load_axes, plan, report, run_ablation
from spikeclip.train.session import Interrupted

STAGES = [{"stage": "align_text", "epochs": 1}, {"stage": "finetune", "epochs": 1, "loss": {"kl": 1.0}}]
AXES = {
    "KL": {"without": ["stages.finetune.loss.kl=0"], "with": []},
    "rate": {
        "diverges": ["stages.finetune.optimizer={lr: 1000, weight_decay: 10}", "stages.finetune.epochs=12"]
    },
}


@pytest.fixture
def file(recipe, tmp_path):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe(*STAGES)))
    return tmp_path / "r.yaml"


def test_an_ablation_and_its_continuation(file, tmp_path, monkeypatch):
    cells = plan(file, ["stages.*.batch_size=40"], AXES, [0, 1])
    assert {config.stages[0].batch_size for cell in cells for config in cell.runs.values()} == {40}
    train, trained = grid.train_run, []

    def train_run(config, out, **settings):
        if len(trained) == 3:
            trained.append("stop")
            raise Interrupted
        trained.append(out.name)
        return train(config, out, **settings)

    monkeypatch.setattr(grid, "train_run", train_run)
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        run_ablation(cells, out, quiet=True)
    partly = json.loads((out / "ablation.json").read_text())
    base, without, own, diverges = partly["rows"]
    assert list(without["runs"].values())[1] is None
    assert (without["interval"], without["change_interval"]) == (None, None)
    assert without["mean"] == without["runs"]["kl-without-0"]
    assert diverges["mean"] is None

    result = run_ablation(cells, out, quiet=True)
    runs = [
        "recipe-0",
        "recipe-1",
        "kl-without-0",
        "stop",
        "kl-without-1",
        "rate-diverges-0",
        "rate-diverges-1",
    ]
    assert trained == runs
    base, without, own, diverges = result["rows"]
    assert own["runs"] == base["runs"]  # the value that changes nothing is the recipe
    assert (own["change"], base["change"]) == (None, None)
    values = [json.loads((out / name / "results.json").read_text()) for name in without["runs"]]
    assert list(without["runs"].values()) == [value["test"]["metrics"]["acc1"] for value in values]
    differences = [a - b for a, b in zip(without["runs"].values(), base["runs"].values(), strict=True)]
    assert without["change"] == pytest.approx(sum(differences) / 2)
    assert without["change_interval"] == pytest.approx(
        12.7062 * abs(differences[0] - differences[1]) / 2, abs=1e-4
    )
    assert set(result["failed"]) == {"rate-diverges-0", "rate-diverges-1"}
    assert "not a number" in result["failed"]["rate-diverges-0"]

    assert run_ablation(cells, out, quiet=True, train=False)["rows"] == result["rows"]
    assert (out / "ablation.png").read_bytes().startswith(b"\x89PNG")
    texts = [text.get_text() for axes in ablation_figure(result).axes for text in axes.texts]
    assert texts == ["missing"]
    with pytest.raises(InputError, match="trained with another recipe"):
        report(plan(file, ["seed=0", "vocab_size=300"], AXES, [0]), out)


def test_a_report_of_nothing_names_no_file(file, tmp_path, capsys):
    out = tmp_path / "none"
    with pytest.raises(SystemExit) as ended:
        main(["ablate", str(file), "--axes", "KL", "--report", "--out", str(out)])
    assert ended.value.code == 0
    assert capsys.readouterr().out.endswith(f"no run has finished in {out}\n")
    assert not out.exists()


@pytest.mark.parametrize("first", [[], ["model.neuron=ilif", "model.T=1"]], ids=["short", "in full"])
def test_a_default_that_is_written_out_is_the_recipe_itself(first, file, tmp_path):
    """Whichever of both was trained, earlier versions too, the other one finds its result."""
    axes = {"neuron": {"I-LIF": ["model.neuron=ilif", "model.T=1"]}}
    assert "T" not in yaml.safe_load(file.read_text())["model"]
    run_ablation(plan(file, ["stages.align_text=null", *first], {}, [0]), tmp_path / "out", quiet=True)
    cells = plan(file, ["stages.align_text=null"], axes, [0])
    for train in (True, False):
        base, same = run_ablation(cells, tmp_path / "out", quiet=True, train=train)["rows"]
        assert base["runs"] == same["runs"] != {"recipe-0": None}
    assert [folder.name for folder in (tmp_path / "out").glob("*-0")] == ["recipe-0"]


def test_built_in_axes_fit_a_recipe_of_both_steps(recipe, tmp_path):
    stages = [{"stage": stage} for stage in ("align_text", "align_image", "finetune")]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe(*stages)))
    axes = load_axes()
    cells = plan(tmp_path / "r.yaml", [], axes, [0])
    assert len(cells) == 1 + sum(map(len, axes.values()))
    by_name = {(cell.axis, cell.value): next(iter(cell.runs.values())) for cell in cells}
    assert [s.stage for s in by_name["alignment", "none"].stages] == ["finetune"]
    assert by_name["neuron", "LIF, T=4"].model.T == 4
    assert [list(cell.runs) for cell in cells if cell.value == "I-LIF"] == [
        ["recipe-0"]
    ]  # T=1 is the default
    assert by_name["T", "LIF, T=4"] == by_name["neuron", "LIF, T=4"]
    assert by_name["pretraining_data", "10 %"].stages[1].share == 0.1
    assert by_name["pretraining_data", "100 %"] == by_name["", "recipe"]
    assert load_axes(None, ["KL"]) == {"KL": axes["KL"]}


@pytest.mark.parametrize(
    ("axes", "seeds", "message"),
    [
        ({"KL": {"x": ["stages.finetune.loss.kl=zero"]}}, [0], "KL: x: stages.1.loss.kl: expected float"),
        ({"KL": {"x": ["stages.align_image=null"]}}, [0], "KL: x: .*'align_image' is not the number"),
        (
            {"a": {"x!": ["precision=bf16"], "x?": ["vocab_size=512"]}},
            [0],
            "another value is called a-x too",
        ),
        ({"a": {"x": ["seed=4"]}}, [0], "a: x: every value is trained with the same seeds; --seeds"),
        ({"a": {200 * "x": ["vocab_size=512"]}}, [0], "both name a folder: give them a letter"),
        ({"🙂": {"猫": ["vocab_size=512"]}}, [0], "both name a folder: give them a letter"),
        (AXES, [1, 1], "different seeds"),
        (AXES, [], "different seeds"),
        (AXES, [0, -1], "seed must be a whole number between 0 and 4,294,967,295, got -1"),
    ],
)
def test_mistakes_show_before_anything_is_trained(axes, seeds, message, file):
    with pytest.raises(InputError, match=message):
        plan(file, [], axes, seeds)


@pytest.mark.parametrize(
    "text", ["[", "- 1", "KL: 3", "KL: {a: 3}", "KL: {}", "{}", "KL: {a: [1]}", "KL: {a: [b: 0]}"]
)
def test_a_file_that_holds_no_axes(text, tmp_path):
    (tmp_path / "axes.yaml").write_text(text)
    with pytest.raises(InputError, match=r"axes\.yaml"):
        load_axes(tmp_path / "axes.yaml")
    with pytest.raises(InputError, match="did you mean 'neuron'"):
        load_axes(None, ["neurons"])


def test_an_axis_may_be_a_number(tmp_path):
    (tmp_path / "axes.yaml").write_text("1: {2: [vocab_size=512]}")
    assert load_axes(tmp_path / "axes.yaml", ["1"]) == {"1": {"2": ["vocab_size=512"]}}
    with pytest.raises(InputError, match="unknown axis 'KL'; known: 1"):
        load_axes(tmp_path / "axes.yaml", ["KL"])


def test_a_folder_of_other_values_is_refused_before_anything_is_trained(file, tmp_path, monkeypatch):
    def of(share, more):
        axes = {"share": {"low": [f"stages.finetune.share={share}"]}, "size": more}
        return plan(file, ["stages.align_text=null"], axes, [0])

    run_ablation(of(0.5, {"small": ["vocab_size=300"]}), tmp_path / "out", quiet=True)
    monkeypatch.setattr(grid, "train_run", None)
    with pytest.raises(
        InputError, match=r"share-low-0 was trained with another recipe \(different: stages\)"
    ):
        run_ablation(of(0.4, {"large": ["vocab_size=400"]}), tmp_path / "out", quiet=True)


def test_a_run_without_memory_is_noted_and_the_others_go_on(file, tmp_path, monkeypatch):
    train = grid.train_run

    def train_run(config, out, **settings):
        if out.name == "size-small-0":
            raise MemoryError
        return train(config, out, **settings)

    monkeypatch.setattr(grid, "train_run", train_run)
    axes = {"size": {"small": ["vocab_size=300"], "large": ["vocab_size=400"]}}
    result = run_ablation(plan(file, ["stages.align_text=null"], axes, [0]), tmp_path / "out", quiet=True)
    assert [row["mean"] is None for row in result["rows"]] == [False, True, False]
    assert result["failed"].keys() == {"size-small-0"}
    assert "not enough memory" in result["failed"]["size-small-0"]
