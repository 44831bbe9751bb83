"""Records side by side: retention after fine-tuning, and what a model was trained on."""

import io
import json

import pytest

from spikeclip.errors import InputError
from spikeclip.evaluate.compare import compare_records, curves_figure, retention_figure, short_names
from spikeclip.evaluate.statistics import point
from spikeclip.provenance import protocol, training_runs


def record(
    model, dataset, acc1, *, pictures=10, seen="fine-tuned", curves=None, task="zeroshot_classification"
):
    return {
        "dataset": dataset,
        "pretrained": model,
        "task": task,
        "metrics": {"acc1": acc1},
        "curves": curves or {},
        "provenance": {
            "data": {"split": "test", "pictures": pictures},
            "training_data": None,
            "seeds": None,
            "prompts": {"hash": "h"},
            "protocol": seen,
        },
    }


def test_what_fine_tuning_gains_and_forgets():
    rows = compare_records(
        [
            record("before", "cifar10", 0.4, seen="zero-shot transfer"),
            record("before", "cifar100", 0.2, seen="zero-shot transfer"),
            record("after", "cifar10", 0.9),
            record("after", "cifar100", 0.15, seen="zero-shot transfer"),
        ]
    )
    assert [(row["dataset"], row["metric"]) for row in rows] == [("cifar10", "acc1"), ("cifar100", "acc1")]
    assert rows[0]["changes"] == {"before": 0, "after": pytest.approx(0.5)}
    assert rows[1]["changes"]["after"] == pytest.approx(-0.05)
    assert rows[0]["protocols"] == {"before": "zero-shot transfer", "after": "fine-tuned"}


def test_records_on_other_pictures_are_not_compared():
    with pytest.raises(InputError, match="cifar10 test zeroshot_classification differ in pictures"):
        compare_records([record("a", "cifar10", 0.5), record("b", "cifar10", 0.5, pictures=11)])


def test_a_line_for_each_model_and_a_panel_for_each_curve():
    def made(model, dataset, value):
        points = [point(0, [value]), point(1, [value, value - 0.2]), point(2, [value - 0.1, 0.1])]
        curves = {"noise": points, "blur": points}
        return record(model, dataset, value, curves=curves, task="corruption")

    figure = curves_figure([made(m, d, 0.8) for m in ("spiking", "twin") for d in ("one", "two")])
    panels = [axes for axes in figure.axes if axes.lines]
    assert len(panels) == 4
    assert [len(axes.containers) for axes in panels] == [2] * 4
    assert {axes.get_title() for axes in panels} == {
        f"{d} test, {c}" for d in ("one", "two") for c in ("noise", "blur")
    }
    low, high = panels[0].get_ylim()
    assert high - low >= 10
    for axes in panels:  # bars end where accuracy does, and are seen whole
        ends = [
            end
            for container in axes.containers
            for bar in container.lines[2][0].get_segments()
            for end in bar
        ]
        assert all(max(0, low) <= y <= min(100, high) for _, y in ends)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="no curves"):
        curves_figure([record("a", "cifar10", 0.5)])


def test_models_of_equal_curves_and_of_one_data_set_are_all_told_apart():
    points = [point(0, [0.8]), point(1, [0.7])]
    made = [
        record(f"runs/{i}", "one" if i else "two", 0.8, curves={"noise": points}, task="corruption")
        for i in range(8)
    ]
    figure = curves_figure(made)
    assert sorted(text.get_text() for text in figure.legends[0].get_texts()) == [str(i) for i in range(8)]
    lines = [container.lines[0] for axes in figure.axes for container in axes.containers]
    assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}) == 8


def test_retention_has_a_point_for_each_model_and_a_panel_for_each_other_set():
    sets = ("target", "one", "two")
    models = [f"/long/way/runs/{i}" for i in range(8)]
    rows = compare_records([record(m, d, (i + len(d)) / 20) for i, m in enumerate(models) for d in sets])
    figure = retention_figure(rows)
    assert [axes.get_ylabel() for axes in figure.axes] == ["one test, %", "two test, %"]
    for axes in figure.axes:
        points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines]
        assert points == [(pytest.approx(5 * (i + 6)), pytest.approx(5 * (i + 3))) for i in range(8)]
        assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 8
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [str(i) for i in range(8)]
    with pytest.raises(InputError, match="two data sets or more"):
        retention_figure(rows[:1])


@pytest.mark.parametrize(
    ("models", "short"),
    [
        (["/work/runs/a", "/work/runs/kl/b"], ["a", "kl/b"]),
        (["openai/clip", "runs/x"], ["openai/clip", "runs/x"]),
        (["runs", "runs/x"], ["runs", "runs/x"]),
        (["runs/x"], ["runs/x"]),
    ],
)
def test_names_without_the_folders_that_all_share(models, short):
    assert short_names(models) == short


def test_what_a_model_has_seen_goes_back_to_its_first_run(tmp_path):
    def run(name, source, *stages, **model):
        (tmp_path / name / "model").mkdir(parents=True)
        recipe = {"data": {"source": source, "train_split": "train"}, "model": model}
        recipe["stages"] = [{"stage": stage} for stage in stages]
        (tmp_path / name / "recipe.json").write_text(json.dumps(recipe))
        return str(tmp_path / name / "model")

    aligned = run("aligned", ["data/tiny", "org/caltech101"], "align_text", "align_image")
    tuned = run("tuned", "data/cifar10", "finetune", pretrained=aligned)
    runs = training_runs(tuned)
    assert [part["sources"] for part in runs] == [["data/cifar10"], ["data/tiny", "org/caltech101"]]
    assert training_runs(tmp_path / "tuned") == runs
    assert protocol(runs, "hub/cifar10") == "fine-tuned"
    assert protocol(runs, "caltech101") == "aligned on it"
    assert protocol(runs, "cifar100") == "zero-shot transfer"
    assert training_runs(None) is None
    lost = run("lost", "data/cifar10", "finetune", pretrained=str(tmp_path / "gone"))
    assert training_runs(lost) is None
    assert protocol(None, "cifar10") is None
