"""What the loop promises whatever the stage: selection, phases, warnings, the log, and what a NaN leads to."""

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_run import rows
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spikeclip.data import sources
from spikeclip.encode.embed import embed_pictures, zero_shot_classifier
from spikeclip.encode.student import Student
from spikeclip.engine import Engine
from spikeclip.errors import InputError
from spikeclip.evaluate.zero_shot import zero_shot_metrics
from spikeclip.graph.inputs import picture_batches
from spikeclip.graph.lower import lower
from spikeclip.model import from_pretrained
from spikeclip.neurons import functional, record
from spikeclip.towers.synapses import round_weight
from spikeclip.train import feed as feed_module
from spikeclip.train import loop
from spikeclip.train import run as run_module
from spikeclip.train.network import driven_accumulates
from spikeclip.train.report import Report
from spikeclip.train.run import resolve_precision
from spikeclip.train.stages.align_image import AlignImage

ALIGN = {"stage": "align_image"}


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)


def scores(folder, name="val_acc1") -> list[float]:
    return [row[name] for row in rows(folder) if name in row]


def test_the_log_has_a_row_for_each_logged_step_and_each_epoch(run, every_step):
    result, folder = run({"stage": "align_text", "batch_size": 16}, {**ALIGN, "epochs": 3})
    logged = rows(folder)
    steps = [(row["stage_index"], row["step"]) for row in logged if "loss" in row]
    assert steps == [(0, step) for step in range(result["stages"][0]["steps"])] + [
        (1, step) for step in range(18)
    ]
    epochs = [row for row in logged if "epoch" in row]
    assert [(row["stage"], row["epoch"]) for row in epochs] == [
        *(("align_text", epoch) for epoch in (1, 2)),
        *(("align_image", epoch) for epoch in (1, 2, 3)),
    ]
    assert all(row["samples_per_second"] > 0 and row["logit_scale"] > 1 for row in epochs)
    for row in logged:
        if "loss" in row:
            assert row["loss"] == pytest.approx(row["cosine"])
            assert all(0 <= rate <= 4 for rate in row["rates"].values())
    # In the image stage only the image tower runs, so only its layers have rates.
    assert {name.split(".")[0] for name in logged[-2]["rates"]} == {"image"}

    board = EventAccumulator(str(folder / "tensorboard" / "1-align_image")).Reload()
    losses = {event.step: event.value for event in board.Scalars("loss")}
    assert losses == pytest.approx(
        {row["step"]: row["loss"] for row in logged if row["stage_index"] and "loss" in row}
    )
    assert [event.value for event in board.Scalars("val_acc1")] == pytest.approx(scores(folder)[-3:])


def test_the_weights_with_the_best_validation_score_are_the_result(run, prepared, monkeypatch):
    stage = {**ALIGN, "epochs": 6, "optimizer": {"lr": 3e-3, "schedule": "constant"}}
    kept = []
    validate = loop._validate

    def spoil(network, *rest):  # after the third epoch
        validate(network, *rest)
        model = network.model
        kept.append({name: value.clone() for name, value in model.state_dict().items()})
        if len(kept) == 3:
            with torch.no_grad():
                model.image.readout.linear.weight.zero_()

    monkeypatch.setattr(loop, "_validate", spoil)
    result, folder = run(stage)
    values = scores(folder)
    assert values[3] < values[2]
    best = max(range(6), key=lambda epoch: (values[epoch], epoch))
    done = result["stages"][0]
    assert (done["best"], done["best_step"]) == (values[best], 6 * (best + 1))
    model = from_pretrained(folder / "model")
    for name, value in model.state_dict().items():
        assert torch.equal(value, kept[best][name])
    material = prepared(stage)
    made = embed_pictures(Student(model), material.pictures.splits["val"])
    assert (
        zero_shot_metrics(made, material.pictures.labels["val"], material.lessons.teacher_classes_KD)["acc1"]
        == done["best"]
    )


WORSE = {"stage": "finetune", "epochs": 2, "optimizer": {"lr": 10.0}}


@pytest.mark.parametrize("change", [{}, {"keep_better": False}, {"loss": {"rate": 1e-9}}], ids=str)
def test_a_stage_that_ends_worse_says_so_and_keeps_the_better_weights(change, run, config, tmp_path, capfd):
    result, folder = run({"stage": "finetune", "epochs": 6}, out="before")
    first = result["stages"][0]
    assert first["before"] is None  # random weights are nothing to compare with
    made = config({"stage": "finetune", "epochs": 6}, {**WORSE, **change})
    second = run_module.train_run(made, tmp_path / "run", test=False)["stages"][1]
    said = " ".join(capfd.readouterr().err.split())
    assert second["before"] == pytest.approx(first["best"], abs=0.06)
    assert "stage finetune ended worse than it began: its best weights have val_acc1 " in said
    old, new = ((f / "model" / "model.safetensors").read_bytes() for f in (folder, tmp_path / "run"))
    if change:
        assert ("those from before are kept" in said, old == new) == (False, False)
        assert second["best"] < second["before"]
    else:
        assert ("those from before are kept" in said, old == new) == (True, True)
        assert (second["best"], second["best_step"]) == (second["before"], 0)


def test_a_stage_that_ends_better_says_nothing(config, tmp_path, capfd):
    made = config(
        {"stage": "align_text"}, {"stage": "finetune", "epochs": 1}, {"stage": "finetune", "epochs": 6}
    )
    stages = run_module.train_run(made, tmp_path / "run", test=False)["stages"]
    assert [stage["before"] is None for stage in stages] == [True, True, False]
    assert stages[2]["best"] > stages[2]["before"] == pytest.approx(stages[1]["best"], abs=0.06)
    assert stages[2]["best_step"] > 0
    assert "ended worse" not in capfd.readouterr().err


def test_stages_and_seeds_draw_independently():
    seeds = {run_module.stage_seed(seed, index) for seed in range(50) for index in range(10)}
    assert len(seeds) == 500
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert run_module.stage_seed(7, 2) == run_module.stage_seed(7, 2)


def test_the_log_has_the_learning_rates(run, every_step):
    stage = {
        **ALIGN,
        "epochs": 1,
        "optimizer": {"kind": "muon", "lr": 0.02, "scalar_lr": 0.01, "schedule": "linear", "warmup": 0},
    }
    _, folder = run(stage)
    logged = [(row["lr"], row["scalar_lr"]) for row in rows(folder) if "loss" in row]
    assert logged == [pytest.approx((0.02 * (1 - i / 6), 0.01 * (1 - i / 6))) for i in range(6)]
    board = EventAccumulator(str(folder / "tensorboard" / "0-align_image")).Reload()
    assert [event.value for event in board.Scalars("lr")] == pytest.approx([lr for lr, _ in logged])
    _, folder = run({**ALIGN, "epochs": 1}, out="adamw")
    assert all("lr" in row and "scalar_lr" not in row for row in rows(folder) if "loss" in row)


def test_training_reads_neither_the_test_split_nor_validation_pictures(run, root, monkeypatch):
    seen, split = set(), {}
    load_all, augment = run_module.load_run_pictures, feed_module.augment
    asked = []
    load = sources.load_pictures

    def watch_load(source, name, *rest, **named):
        asked.append(name)
        return load(source, name, *rest, **named)

    def watch_pictures(*given):
        pictures = load_all(*given)
        split.update({name: {i.tobytes() for i in part.images[:]} for name, part in pictures.splits.items()})
        return pictures

    def watch_augment(images, *rest):
        seen.update(image.numpy().tobytes() for image in images)
        return augment(images, *rest)

    monkeypatch.setattr(sources, "load_pictures", watch_load)
    monkeypatch.setattr(run_module, "load_run_pictures", watch_pictures)
    monkeypatch.setattr(feed_module, "augment", watch_augment)
    run(ALIGN, {"stage": "finetune"}, {"stage": "contrastive"})
    assert asked == ["train"]
    assert seen == split["train"]
    assert not seen & split["val"]
    assert len(split["val"]) == 18


def test_the_test_split_is_reported_once_at_the_end(run):
    result, folder = run({"stage": "finetune", "epochs": 1}, test=True)
    record = result["test"]
    assert record["provenance"]["data"]["split"] == "test"
    assert record["provenance"]["data"]["pictures"] == 60
    assert (folder / "results.json").is_file()


def test_relu_first_is_a_relu_then_spikes(prepared, run, monkeypatch):
    """A network in the ReLU phase passes on more than D levels; later it does not."""
    modes = []
    forward = loop.StageNetwork.forward

    def watch(network, inputs, targets):
        outputs = []
        spike = network.model.image.groups[1]
        handle = spike.register_forward_hook(lambda module, given, output: outputs.append(output.detach()))
        terms = forward(network, inputs, targets)
        handle.remove()
        modes.append(len(outputs[0].unique()) > spike.levels + 1)
        return terms

    monkeypatch.setattr(loop.StageNetwork, "forward", watch)
    result, _ = run({**ALIGN, "epochs": 4, "relu_first": 0.5})
    assert modes == [True] * 12 + [False] * 12
    assert result["stages"][0]["best_step"] > 12


def test_an_epoch_of_the_relu_phase_is_no_candidate(run, monkeypatch):
    falling = iter([0.9, 0.8, 0.3, 0.2] * 2)
    make = run_module.make_stage

    def make_stage(*given):
        stage = make(*given)
        stage.score = lambda model: next(falling)
        return stage

    monkeypatch.setattr(run_module, "make_stage", make_stage)
    half, _ = run({**ALIGN, "epochs": 4, "relu_first": 0.5}, out="half")
    assert (half["stages"][0]["best"], half["stages"][0]["best_step"]) == (0.3, 18)
    whole, _ = run({**ALIGN, "epochs": 4, "relu_first": 1.0}, out="whole")
    assert (whole["stages"][0]["best"], whole["stages"][0]["best_step"]) == (0.9, 6)


@pytest.mark.parametrize("neuron", ["lif", "plif"])
def test_relu_first_with_lif(neuron, run):
    with pytest.raises(InputError, match="lif and plif have no ReLU phase"):
        run({**ALIGN, "relu_first": 0.5}, model={"neuron": neuron, "T": 2})


@pytest.mark.parametrize("neuron", ["lif", "plif", "ilif", "relu", "quant_relu"])
def test_every_neuron_learns(neuron, run):
    time = {"T": 2} if neuron in ("lif", "plif") else {}
    result, _ = run({"stage": "finetune", "epochs": 6}, model={"neuron": neuron, **time})
    assert result["stages"][0]["best"] > 0.6  # chance is 1/6


def spikes(folder, pictures, layers="image") -> dict[str, float]:
    model = from_pretrained(folder / "model")
    with record(model) as rates:
        embed_pictures(Student(model), pictures.splits["val"])
    return {name: rate.item() for name, rate in rates.items()}


def test_the_rate_regulariser_lowers_accumulates_towards_its_target(run, prepared):
    def mean_rate(rate, target=0.0):
        """Accumulates of a picture over those of one spike per neuron."""
        loss = {"rate": rate, "target_rate": target}
        _, folder = run({"stage": "finetune", "epochs": 6, "loss": loss}, out=f"r{rate}-{target}")
        rates, weights = spikes(folder, pictures), driven_accumulates(from_pretrained(folder / "model"))
        driven = {name: weights[name] for name in rates}
        return sum(driven[name] * rate for name, rate in rates.items()) / sum(driven.values())

    pictures = prepared({"stage": "finetune"}).pictures
    free, light, strong = mean_rate(0.0), mean_rate(1.0), mean_rate(10.0)
    assert strong < light < free
    # Above its target a layer is pushed down as before; below it the network is left alone.
    aimed = mean_rate(10.0, 0.8 * free)
    assert strong < aimed < free
    assert aimed == pytest.approx(0.8 * free, rel=0.2)


def test_a_target_that_is_met_changes_nothing(run, every_step):
    _, free = run(ALIGN, out="free")
    _, met = run({**ALIGN, "loss": {"rate": 5.0, "target_rate": 4.0}}, out="met")
    assert [row["loss"] for row in rows(met) if "loss" in row] == [
        row["loss"] for row in rows(free) if "loss" in row
    ]
    assert {row["rate"] for row in rows(met) if "loss" in row} == {0.0}


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("relu_first", [0.0, 1.0])
def test_a_nan_stops_the_run_and_names_the_layer(value, relu_first, run, monkeypatch):
    build = run_module.build_model

    def damaged(*given):
        model = build(*given)
        with torch.no_grad():
            model.image.groups[2].conv.weight[0, 0, 0, 0] = value
        return model

    monkeypatch.setattr(run_module, "build_model", damaged)
    with pytest.raises(InputError, match=r"not a number at step 0, first in layer image\.groups\.2\.conv;"):
        run({**ALIGN, "relu_first": relu_first})


def test_weights_that_are_no_numbers_never_reach_a_checkpoint(run, tmp_path, monkeypatch):
    """The last update can spoil weights whose loss was still a number."""
    step = torch.optim.AdamW.step
    count = []

    def spoil(optimizer, closure=None):
        step(optimizer)
        count.append(optimizer)
        if len(count) == 4:
            optimizer.param_groups[0]["params"][0].data[0] = math.nan

    monkeypatch.setattr(torch.optim.AdamW, "step", spoil)
    with pytest.raises(InputError, match=r"image\.groups\.0\.conv\.weight is not a number after step 4"):
        run(ALIGN, checkpoint_minutes=0.0)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["stage"]["progress"]["step"] == 3
    assert all(torch.isfinite(value).all() for value in state["stage"]["model"].values())


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_dead_layer_is_named(rate, config, tmp_path, every_step, monkeypatch, capfd):
    build = run_module.build_model

    def damaged(*given):
        model = build(*given)
        with torch.no_grad():
            model.image.groups[4].bn.bias.fill_(-100)
        return model

    monkeypatch.setattr(run_module, "build_model", damaged)
    made = config({**ALIGN, "epochs": 2, "loss": {"rate": rate}})
    run_module.train_run(made, tmp_path / "run", test=False)
    error = capfd.readouterr().err
    warnings = re.findall(r"layer (\S+) has not spiked", error)
    assert "image.groups.5" in warnings
    assert "image.groups.1" not in warnings
    assert len(warnings) == len(set(warnings))  # each is named once


def test_the_gradient_is_clipped(run, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def watch(optimizer, closure=None):
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(torch.cat([g.flatten() for g in grads]).norm().item())
        step(optimizer)

    monkeypatch.setattr(torch.optim.AdamW, "step", watch)
    run({**ALIGN, "epochs": 1}, out="free")
    run({**ALIGN, "epochs": 1, "optimizer": {"lr": 0.01, "clip_norm": 1e-3}}, out="clipped")
    assert min(norms[:6]) > 1e-2
    assert norms[6:] == pytest.approx([1e-3] * 6, rel=1e-2)


def test_the_learning_rate_follows_the_schedule_to_its_end(run, monkeypatch):
    rates = []
    step = torch.optim.AdamW.step

    def watch(optimizer, closure=None):
        rates.append(optimizer.param_groups[0]["lr"])
        step(optimizer)

    monkeypatch.setattr(torch.optim.AdamW, "step", watch)
    run({**ALIGN, "optimizer": {"lr": 0.01, "schedule": "linear", "warmup": 0.25, "final": 0.5}})
    rise, fall = [1 / 3, 2 / 3, 1], [1 - 0.5 * i / 9 for i in range(9)]
    assert rates == pytest.approx([0.01 * share for share in rise + fall])


@pytest.fixture
def captured(monkeypatch):
    """Compile without the code generator, which takes a minute; returns the modules that were compiled."""
    compiled = []

    def capture(module, **settings):
        compile_module(module, backend="eager", **settings)
        compiled.append(module)

    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", capture)
    torch._dynamo.reset()
    return compiled


@pytest.mark.parametrize("neuron", ["lif", "plif", "ilif", "relu", "quant_relu"])
def test_compiled_towers_train_as_the_plain_ones(run, captured, monkeypatch, neuron):
    stage = {"stage": "contrastive", "relu_first": 0.5 if neuron in ("ilif", "quant_relu") else 0.0}
    stage["loss"] = {"rate": 0.1}
    monkeypatch.setattr(loop, "LOG_EVERY", 4)
    monkeypatch.setattr(
        functional, "_kernels", lambda x_TX: None
    )  # PyTorch's loops, which are what is compiled
    plain, compiled = (
        run(stage, out=str(on), compile=on, test=True, model={"neuron": neuron}) for on in (False, True)
    )
    assert len(captured) == 2
    for a, b in zip(rows(plain[1]), rows(compiled[1]), strict=True):
        a.pop("samples_per_second", None), b.pop("samples_per_second", None)
        assert str(a) == str(b)  # a ReLU's rates are not numbers, and those are never equal
    assert str(compiled[0]["test"]["spikes"]) == str(plain[0]["test"]["spikes"])


def test_every_stage_and_phase_of_a_run_compiles(run, captured):
    phases = {"relu_first": 0.5}
    text, image = {"stage": "align_text", "batch_size": 16, **phases}, {**ALIGN, **phases}
    both = {"stage": "contrastive", "batch_size": 13, **phases}
    result, _ = run(text, image, {"stage": "finetune"}, both, compile=True)
    assert len(result["stages"]) == 4


def test_a_batch_larger_than_the_data_is_one_step(run):
    result, _ = run({**ALIGN, "batch_size": 1000})
    assert result["stages"][0]["steps"] == 2


def test_bf16_trains_and_leaves_fp32_weights(run):
    result, folder = run({"stage": "finetune", "epochs": 4}, precision="bf16")
    assert {value.dtype for value in from_pretrained(folder / "model").state_dict().values()} == {
        torch.float32
    }
    assert result["stages"][0]["best"] > 1 / 6


def test_precision_is_what_the_processor_multiplies(monkeypatch):
    for fast, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda fast=fast: fast)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda fast=fast: fast, raising=False)
        assert resolve_precision("auto", "cpu") == expected
    assert resolve_precision("bf16", "cpu") == torch.bfloat16
    assert resolve_precision("fp32", "cpu") == torch.float32


def test_a_stage_with_int8_weights_is_scored_as_the_int8_engine_runs_it(run, prepared):
    result, folder = run({"stage": "finetune", "epochs": 6, "int8_weights": True})
    model, pictures = (
        from_pretrained(folder / "model"),
        prepared({"stage": "finetune"}).pictures.splits["val"],
    )
    assert not torch.equal(model.image.groups[2].conv.weight, round_weight(model.image.groups[2].conv.weight))
    engine = Engine(lower(model.image, model.config.image), precision="int8")
    made = torch.from_numpy(
        np.concatenate([engine(x) for x in picture_batches(engine.graph, pictures.images)])
    )
    classes_KD = zero_shot_classifier(Student(model), pictures.classnames, ["a photo of a {c}."])
    score = zero_shot_metrics(F.normalize(made, dim=-1), torch.from_numpy(pictures.labels), classes_KD)[
        "acc1"
    ]
    assert score == pytest.approx(result["stages"][0]["best"], abs=0.05)


def test_a_stage_uses_its_share_of_the_samples(run, monkeypatch):
    seen: dict[float, set[int]] = {}
    batch = AlignImage.batch

    def watch(stage, indices, *rest):
        seen.setdefault(stage.config.share, set()).update(indices.tolist())
        return batch(stage, indices, *rest)

    monkeypatch.setattr(AlignImage, "batch", watch)
    sizes = {}
    for share in (0.25, 0.5, 1.0):
        result, _ = run({**ALIGN, "share": share, "batch_size": 20}, out=f"share-{share}")
        sizes[share] = result["stages"][0]["steps"]
    assert sizes == {0.25: 4, 0.5: 8, 1.0: 16}
    assert seen[0.25] < seen[0.5] < seen[1.0]


def test_a_line_of_the_log_is_not_folded_in_a_pipe(tmp_path, capsys):
    text = " ".join(["words"] * 60)
    Report(tmp_path).warn(text)
    assert capsys.readouterr().err == f"warning: {text}\n"
