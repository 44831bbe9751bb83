"""From a trained model to a folder from which every contestant can start in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.machine import has_onnx_runtime
from benchmarks.plain import PlainTower
from spikeclip.config import DataConfig, ImageConfig, RunConfig, from_dict, to_dict
from spikeclip.data.images import Images
from spikeclip.data.sources import load_pictures
from spikeclip.data.transforms import normalize
from spikeclip.encode.embed import zero_shot_classifier
from spikeclip.encode.student import Student
from spikeclip.encode.vectors import unit
from spikeclip.errors import InputError
from spikeclip.evaluate.rates import mean_rates
from spikeclip.evaluate.zero_shot import zero_shot_metrics
from spikeclip.graph import save_graph
from spikeclip.graph.lower import lower
from spikeclip.model import SpikeCLIP, from_pretrained, weights_hash
from spikeclip.towers.separable import SeparableTower

CALIBRATION = 256
"""Training pictures that set the ranges of the quantised twin."""


@dataclass
class Network:
    """A trained network that was made ready: its folder, its facts, and what its embeddings are compared with."""

    folder: Path
    facts: dict[str, Any]
    classes_KD: np.ndarray
    labels_N: np.ndarray

    def accuracy(self, embeddings_file: Path) -> float:
        """Return the share of pictures whose class prompt is nearest, from embeddings (N, D) in a .npy file."""
        return zero_shot_metrics(unit(np.load(embeddings_file)), self.labels_N, self.classes_KD)["acc1"]


def prepare(source: Path, data: str, pictures: int, batches: Sequence[int], out: Path) -> Network:
    """Write tower, graph, test pictures and, of a ReLU network, its exports for every batch size into `out`.

    source: a saved model, or a run with one in it. Its class names and prompt templates are those of the run's
    recipe where there is one. Raises `InputError`.
    """
    model = from_pretrained(source)
    settings = prompts(source)
    format = model.config.image.format

    def load(split: str, limit: int) -> Any:
        return load_pictures(data, split, format, limit=limit, classnames=settings.classnames)

    test = load("test", pictures)
    if test.labels is None:
        raise InputError(f"{data} has no labels, so there is no accuracy to compare")
    if isinstance(model.image, SeparableTower):
        raise InputError(
            f"{data}: this bench exports the twins of conv and spikingformer towers, not of a separable one"
        )
    write_network(model, normalized(model.config.image, test.images), out)
    if model.config.neuron.kind == "relu":
        sample_NHWC = normalized(model.config.image, load("train", CALIBRATION).images)
        for batch in batches:
            export_twin(PlainTower(model.image).eval(), sample_NHWC, batch, out)
    spikes = mean_rates(Student(model), test)
    facts = {
        "model": model.config.name,
        "source": str(source),
        "weights": weights_hash(model),
        "neuron": to_dict(model.config.neuron),
        "pictures": {"source": test.name, "split": test.split, "fingerprint": test.fingerprint},
        "templates": settings.templates,
        "classnames": list(test.classnames),
        "spikes": spikes,
    }
    return Network(
        out, facts, zero_shot_classifier(Student(model), test.classnames, settings.templates), test.labels
    )


def prompts(source: Path) -> DataConfig:
    """Return the data settings of the run in `source`, or the defaults for a model without its run."""
    recipe = source / "recipe.json"
    if not recipe.is_file():
        return DataConfig(source=str(source))
    return from_dict(RunConfig, json.loads(recipe.read_text()), str(recipe)).data


def normalized(config: ImageConfig, images_NHWC: np.ndarray | Images) -> np.ndarray:
    """Return uint8 pictures as a tower of `config` reads them, (N, H, W, 3) float32."""
    x_NCHW = normalize(torch.from_numpy(np.array(images_NHWC)), config.mean, config.std)
    return np.ascontiguousarray(x_NCHW.permute(0, 2, 3, 1).numpy())


def write_network(model: SpikeCLIP, images_NHWC: np.ndarray, out: Path) -> None:
    """Write the image tower, its graph and the pictures."""
    out.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.image.state_dict().items()}, out / "image.safetensors")
    (out / "config.json").write_text(json.dumps({"model_type": "spikeclip", **to_dict(model.config)}))
    np.save(out / "pictures.npy", images_NHWC)
    save_graph(lower(model.image, model.config.image), out / "graph")


def export_twin(network: PlainTower, sample_NHWC: np.ndarray, batch: int, out: Path) -> None:
    """Write twin-BATCH-fp32.onnx and, quantised with the sample's ranges, twin-BATCH-int8.onnx.

    Both take exactly `batch` pictures (B, 3, H, W). Without onnx nothing is written.
    """
    if not has_onnx_runtime():  # the rows of ONNX Runtime and OpenVINO will say so
        return
    sample_NCHW = np.ascontiguousarray(sample_NHWC.transpose(0, 3, 1, 2))
    exact = out / f"twin-{batch}-fp32.onnx"
    # The exporter of torch.export would need onnxscript; a network this plain loses nothing in the older one.
    torch.onnx.export(
        network, (torch.from_numpy(sample_NCHW[:batch]),), str(exact), input_names=["images"], dynamo=False
    )

    quantize(exact, out / f"twin-{batch}-int8.onnx", sample_NCHW, batch)


def quantize(exact: Path, out: Path, sample_NCHW: np.ndarray, batch: int) -> None:
    """Write an exported network in int8, with the ranges of a sample that goes through it in batches."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Batches(CalibrationDataReader):
        def __init__(self) -> None:
            self.starts = iter(range(0, len(sample_NCHW) - batch + 1, batch))

        def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
            start = next(self.starts, None)
            return None if start is None else {"images": sample_NCHW[start : start + batch]}

    quantize_static(
        exact,
        out,
        Batches(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,  # what VNNI and AMX multiply: unsigned activations, signed weights
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
