"""Who takes part: trained weights in, a function from pictures to embeddings out.

Nothing heavy is imported at the top: the peak memory and the start-up of a contestant are its own runtime's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn

Embed = Callable[[np.ndarray], np.ndarray]
"""Normalised pictures (B, H, W, 3) float32 -> embeddings (B, embed_dim) float32, not of unit length."""


@dataclass(frozen=True)
class Job:
    """What a contestant gets: everything is on disk, so that a process of its own can start from it."""

    contestant: str
    """Its name in `CONTESTANTS`."""
    folder: str
    """What `benchmarks.prepare` wrote for its weights."""
    batch: int
    """Pictures of one call; a network that was exported for one size gets no other."""
    threads: int
    """Threads of every runtime."""
    table: str = "benchmarks.contestants"
    """Module that lists it in `CONTESTANTS`."""
    packages: str = ""
    """Folder whose packages come before the installed ones, for a second version of a peer."""


@dataclass(frozen=True)
class Contestant:
    weights: Literal["lif", "ilif", "relu"]
    """Which of the trained networks it runs."""
    build: Callable[[Job], tuple[Embed, dict[str, Any]]]
    """Returns the function that is timed, and notes for the record (a callable note is asked after the race)."""


def spikingjelly(job: Job) -> tuple[Embed, dict[str, Any]]:
    """The published design: SpikingJelly's neurons, the first convolution at every time step, fp32."""
    from importlib.metadata import version

    from benchmarks.peers import OnSpikingJelly

    tower = OnSpikingJelly(_load(job), every_step=True).eval()
    return _run_torch(tower, job, "fp32"), {"version": version("spikingjelly")}


def pytorch(job: Job, precision: str, compiled: bool = False) -> tuple[Embed, dict[str, Any]]:
    """Our tower as it is trained."""
    tower = _load(job)
    if compiled:
        tower.compile(fullgraph=True)
    return _run_torch(tower, job, precision), {}


def engine(job: Job, precision: str, mode: str = "auto") -> tuple[Embed, dict[str, Any]]:
    """Our event-driven engine on the lowered tower; needs no PyTorch."""
    from spikeclip.engine import Engine
    from spikeclip.engine.dense import Stretch
    from spikeclip.graph import load_graph

    graph = load_graph(Path(job.folder) / "graph")
    run = Engine(graph, precision=precision, threads=job.threads, mode=mode)  # type: ignore[arg-type]

    def runs(_: np.ndarray) -> str:
        stretches = sum(isinstance(step, Stretch) for step in run.steps)
        return "whole dense" if run.whole else f"{stretches} stretches dense" if stretches else "events"

    def explain(images_BHWC: np.ndarray) -> list[str]:
        run.calibrate(images_BHWC)
        return run.explain().splitlines()

    return run, {"runs": runs, "explain": explain} if mode == "auto" else {}


def twin_pytorch(job: Job, precision: str) -> tuple[Embed, dict[str, Any]]:
    """The ANN twin without time axis, BatchNorm folded."""
    from benchmarks.plain import PlainTower

    return _run_torch(PlainTower(_load(job)).eval(), job, precision), {}


def twin_onnxruntime(job: Job, precision: str) -> tuple[Embed, dict[str, Any]]:
    """The exported twin; int8 is its static quantisation."""
    run = onnxruntime(_exported(job, precision), job.threads)
    return lambda images: run(_nchw(images)), {}


def twin_openvino(job: Job, precision: str) -> tuple[Embed, dict[str, Any]]:
    """The exported twin; bf16 is a hint to the compiler, int8 the network quantised for ONNX Runtime."""
    run = openvino(_exported(job, precision), job.threads, precision)
    return lambda images: run(_nchw(images)), {}


def onnxruntime(file: str, threads: int) -> Embed:
    """Return what runs an exported network, from what it reads to what it gives."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]  # type: ignore[return-value]


def openvino(file: str, threads: int, precision: str) -> Embed:
    """Return what runs an exported network, from what it reads to what it gives."""
    from spikeclip.engine.openvino import load_openvino

    openvino = load_openvino()
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",  # one call at a time, with all threads in it
    }
    if precision != "int8":  # the quantised network says itself what is int8; the rest is OpenVINO's choice
        settings["INFERENCE_PRECISION_HINT"] = {"fp32": "f32", "bf16": "bf16"}[precision]
    network = openvino.Core().compile_model(file, "CPU", settings)
    return lambda x: next(iter(network(x).values())).copy()


def _load(job: Job) -> Any:
    import torch

    from spikeclip.config import read_config
    from spikeclip.towers import image_tower
    from spikeclip.towers.weights import load_file

    torch.set_num_threads(job.threads)
    config = read_config(Path(job.folder))
    make = partial(image_tower, config.image, config.neuron, config.embed_dim)
    return load_file(make, Path(job.folder) / "image.safetensors").eval()


def _run_torch(module: nn.Module, job: Job, precision: str) -> Embed:
    import torch

    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def embed(images_BHWC: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            images: torch.Tensor = torch.from_numpy(images_BHWC).permute(0, 3, 1, 2)  # is channels-last
            return module(images).float().numpy()

    return embed


def _exported(job: Job, precision: str) -> str:
    file = Path(job.folder) / f"twin-{job.batch}-{'int8' if precision == 'int8' else 'fp32'}.onnx"
    if not file.exists():
        raise ModuleNotFoundError("exporting the twin needs onnx and onnxruntime")
    return str(file)


def _nchw(images_BHWC: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images_BHWC.transpose(0, 3, 1, 2))


CONTESTANTS: dict[str, Contestant] = {
    "SpikingJelly": Contestant("lif", spikingjelly),
    "LIF, PyTorch fp32": Contestant("lif", partial(pytorch, precision="fp32")),
    "LIF, PyTorch bf16": Contestant("lif", partial(pytorch, precision="bf16")),
    "LIF, PyTorch bf16 compiled": Contestant("lif", partial(pytorch, precision="bf16", compiled=True)),
    "LIF, engine fp32": Contestant("lif", partial(engine, precision="fp32")),
    "LIF, engine int8": Contestant("lif", partial(engine, precision="int8")),
    "I-LIF, PyTorch fp32": Contestant("ilif", partial(pytorch, precision="fp32")),
    "I-LIF, PyTorch bf16": Contestant("ilif", partial(pytorch, precision="bf16")),
    "I-LIF, PyTorch bf16 compiled": Contestant("ilif", partial(pytorch, precision="bf16", compiled=True)),
    "I-LIF, engine fp32": Contestant("ilif", partial(engine, precision="fp32")),
    "I-LIF, engine int8": Contestant("ilif", partial(engine, precision="int8")),
    "I-LIF, engine int8 events": Contestant("ilif", partial(engine, precision="int8", mode="events")),
    "I-LIF, engine int8 dense": Contestant("ilif", partial(engine, precision="int8", mode="dense")),
    "ANN, PyTorch fp32": Contestant("relu", partial(twin_pytorch, precision="fp32")),
    "ANN, PyTorch bf16": Contestant("relu", partial(twin_pytorch, precision="bf16")),
    "ANN, ONNX Runtime fp32": Contestant("relu", partial(twin_onnxruntime, precision="fp32")),
    "ANN, ONNX Runtime int8": Contestant("relu", partial(twin_onnxruntime, precision="int8")),
    "ANN, OpenVINO fp32": Contestant("relu", partial(twin_openvino, precision="fp32")),
    "ANN, OpenVINO bf16": Contestant("relu", partial(twin_openvino, precision="bf16")),
    "ANN, OpenVINO int8": Contestant("relu", partial(twin_openvino, precision="int8")),
}
