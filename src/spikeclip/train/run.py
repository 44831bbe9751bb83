"""A whole run: material, model, every stage in order, the saved model and its result on the test split."""

from __future__ import annotations

import json
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from spikeclip.config import ImageFormat, RunConfig, model_config, read_config, to_dict
from spikeclip.data.mixture import join, load_sources
from spikeclip.data.transforms import normalize
from spikeclip.encode.student import Student
from spikeclip.errors import InputError
from spikeclip.evaluate.record import evaluate_model
from spikeclip.files import check_free
from spikeclip.model import SpikeCLIP, from_pretrained
from spikeclip.pretrained.resolve import resolve
from spikeclip.records import write_record
from spikeclip.towers.synapses import int8_weights
from spikeclip.train.checkpoint import load_checkpoint, save_checkpoint
from spikeclip.train.loop import Interrupted, catch_signals, run_stage
from spikeclip.train.material import Material, gather_material
from spikeclip.train.precision import resolve_precision
from spikeclip.train.recipe import changed_settings
from spikeclip.train.report import Report
from spikeclip.train.stages import make_stage

WHITENING_PICTURES = 5000
GRAPHS = 64
"""Graphs that torch.compile may make of one tower: training and not, ReLU and spikes, fixed sizes and any."""


def train_run(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    title: str = "",
    quiet: bool = False,
    test: bool = True,
) -> dict[str, Any]:
    """Run every stage of `config` and save `out`/model and `out`/results.json.

    `resume` continues an interrupted run from its checkpoint with the same recipe and ends with the weights an
    uninterrupted run would have. `overwrite` removes an earlier run in `out`. `test` reports the test split once,
    at the end. Returns {"stages": [...], "seconds": training time, "precision": of the training,
    "test": record or None}. Raises `InputError`, and `Interrupted` after Ctrl-C.
    """
    accelerator = Accelerator()
    checkpoint = out / "checkpoint.pt"
    if accelerator.is_main_process:
        _prepare(config, out, resume, overwrite)
    accelerator.wait_for_everyone()
    state = load_checkpoint(checkpoint) if resume and checkpoint.exists() else None

    set_seed(config.seed)
    image = model_settings(config)["image"]
    image_size, event_frames = image["image_size"], image["event_frames"]
    with accelerator.main_process_first():  # one process fills the caches, the others read them
        material = gather_material(config, image_size, str(accelerator.device), event_frames)
    model = build_model(config, material).to(accelerator.device)
    done: list[dict[str, Any]] = []
    inner: dict[str, Any] | None = None
    if state:
        done, inner = state["done"], state["stage"]
        model.load_state_dict(state["weights"])
    if config.compile:
        model.image.compile(fullgraph=True)
        model.text.compile(fullgraph=True)
    report = Report(out, accelerator.is_main_process, title, quiet)
    precision = resolve_precision(config.precision, accelerator.device.type)
    try:
        with catch_signals() as interrupted, _graphs_allowed() if config.compile else nullcontext():
            for index in range(len(done), len(config.stages)):
                weights = {name: value.clone() for name, value in model.state_dict().items()}
                stage = make_stage(config.stages[index], material, model.eval())

                def save(inside: dict[str, Any], weights: dict = weights) -> None:
                    if accelerator.is_main_process:
                        save_checkpoint(checkpoint, {"done": done, "weights": weights, "stage": inside})

                with int8_weights(model, config.stages[index].int8_weights):
                    progress = run_stage(
                        model,
                        stage,
                        accelerator,
                        report,
                        index=index,
                        seed=config.seed + index,
                        precision=precision,
                        save=save,
                        every_seconds=60 * config.checkpoint_minutes,
                        state=inner,
                        interrupted=interrupted,
                    )
                inner = None  # the stages after the one that was interrupted start afresh
                done.append(
                    {
                        "stage": config.stages[index].stage,
                        "seconds": progress.seconds,
                        "score": stage.score_name,
                        "best": progress.best_score,
                        "best_step": progress.best_step,
                        "steps": progress.step,
                    }
                )
                if accelerator.is_main_process:
                    save_checkpoint(checkpoint, {"done": done, "weights": model.state_dict(), "stage": None})
    except Interrupted:
        raise Interrupted(f"stopped; the checkpoint is {checkpoint}; continue with --resume") from None
    finally:
        report.close()
    result: dict[str, Any] = {
        "stages": done,
        "seconds": sum(stage["seconds"] for stage in done),
        "precision": "bf16" if precision == torch.bfloat16 else "fp32",
        "test": None,
    }
    if accelerator.is_main_process:
        model.save_pretrained(out / "model")
        if test and config.data.test_split:
            pictures = join(
                load_sources(config.data, config.data.test_split, ImageFormat(image_size, event_frames))
            )
            saved = Student(from_pretrained(out / "model").to(accelerator.device))
            task = "zeroshot_retrieval" if pictures.labels is None else "zeroshot_classification"
            result["test"] = evaluate_model(
                saved, pictures, task=task, templates=config.data.templates, seed=config.seed
            )
        result["recipe"] = to_dict(config)
        write_record(result, out / "results.json")
    return result


def build_model(config: RunConfig, material: Material) -> SpikeCLIP:
    """Build the run's model: vocabulary from the tokenizer, dimension from the teacher, whitening from the pictures."""
    model = _pretrained(config, material) if "pretrained" in config.model else _new(config, material)
    model.image.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _pretrained(config: RunConfig, material: Material) -> SpikeCLIP:
    folder = config.model["pretrained"]
    model = from_pretrained(folder)
    if material.embed_dim not in (None, model.config.embed_dim):
        raise InputError(
            f"{folder} embeds in {model.config.embed_dim} dimensions, the teacher in {material.embed_dim}"
        )
    if model.tokenizer is None:
        model.tokenizer = material.tokenizer
    material.tokenizer, text = model.tokenizer, model.config.text
    if material.tokenizer.vocab_size > text.vocab_size or material.tokenizer.eos_id != text.eos_id:
        raise InputError(
            f"{folder} has no tokenizer and reads {text.vocab_size} tokens that end in {text.eos_id}, the run's "
            f"has {material.tokenizer.vocab_size} that end in {material.tokenizer.eos_id}: set `tokenizer`"
        )
    return model


def _new(config: RunConfig, material: Material) -> SpikeCLIP:
    settings, tokenizer = dict(config.model), material.tokenizer
    text = {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id}
    settings["text"] = {**text, **(settings.get("text") or {})}
    dim = material.embed_dim
    if dim is not None and settings.setdefault("embed_dim", dim) != dim:
        raise InputError(f"model.embed_dim is {settings['embed_dim']}, but the teacher's is {dim}")
    model = SpikeCLIP(model_config(**settings), tokenizer)
    whiten = getattr(model.image, "whiten", None)
    if whiten is not None:
        pixels = torch.from_numpy(material.pictures["train"].images[:WHITENING_PICTURES])
        x = normalize(pixels, *model.config.image.normalization)
        whiten.fit(x.flatten(0, -4))  # every frame of a recording is a picture
    return model


def _graphs_allowed() -> AbstractContextManager:
    # The older name of recompile_limit, which every supported version knows.
    return torch._dynamo.config.patch(cache_size_limit=GRAPHS)


def model_settings(config: RunConfig) -> dict[str, Any]:
    """Return the configuration of a run's model in full; raises `InputError` where there is none."""
    if "pretrained" in config.model:
        if len(config.model) > 1:
            raise InputError(
                "model.pretrained takes the saved model as it is; remove the other model settings"
            )
        return to_dict(read_config(resolve(config.model["pretrained"]).folder))
    return to_dict(model_config(**config.model))


def _prepare(config: RunConfig, out: Path, resume: bool, overwrite: bool) -> None:
    recipe = out / "recipe.json"
    if resume:
        if not recipe.is_file():
            raise InputError(f"nothing to resume in {out}")
        if changed := changed_settings(json.loads(recipe.read_text()), config):
            raise InputError(f"{out} was started with another recipe (different: {', '.join(changed)})")
        return
    if recipe.exists():
        if not overwrite:
            raise InputError(f"{out} already holds a run: --resume continues it, --overwrite replaces it")
        shutil.rmtree(out)
    check_free(out, "run", False)  # what was a run is gone
    out.mkdir(parents=True, exist_ok=True)
    recipe.write_text(json.dumps(to_dict(config), indent=2) + "\n")
