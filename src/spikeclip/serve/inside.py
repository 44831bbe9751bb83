"""One picture inside the network: who fires how often, and what it costs beside the ordinary twins."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import numpy as np
from fastapi import APIRouter, File, Form, UploadFile
from pydantic import BaseModel

from spikeclip.encode.encoder import Encoder
from spikeclip.energy.compare import SPIKING, tower_energy
from spikeclip.energy.conventions import load_conventions
from spikeclip.energy.firing import Firing, Group, Watch, all_firing, measure_firing
from spikeclip.energy.ledger import LEVELS
from spikeclip.energy.words import MEANING, against, amount, pairs
from spikeclip.engine import Engine, Runtime
from spikeclip.errors import unknown
from spikeclip.graph.ops import Graph, Image, Neuron
from spikeclip.serve.batches import Batched
from spikeclip.serve.refusals import Refused
from spikeclip.serve.settings import Settings
from spikeclip.serve.uploads import pixels_of

NEURONS, PLACES, RASTERS = 96, 56, 6
"""Rows of a raster, places of a map along a side, and rasters of one request, at most."""


class Layer(BaseModel):
    """How a layer of neurons fired."""

    name: str
    shape: list[int]
    """Of its neurons: height, width, channels; or positions, channels."""
    highest: int
    """Spikes that a neuron can fire in one time step."""
    rate: float
    """Mean spikes per neuron and time step."""
    density: float
    """Share of activations that are not zero."""
    rates_by_step: list[float]


class Raster(BaseModel):
    """Spikes of some neurons of a layer, and where on the picture the layer fired."""

    name: str
    signed: bool
    """Whether a negative number stands for spikes of an OFF neuron."""
    highest: int
    rows: list[list[int]]
    """Spikes of neurons taken evenly from the layer, each in every time step; n of D are sub-steps 1 to n."""
    map: list[list[float]] | None
    """Mean spikes per neuron and time step at places of the picture, from above; None where a layer has no places."""


class Energy(BaseModel):
    """What this one picture costs the image tower, counted and not measured."""

    network: str
    spiking: bool
    joules: dict[str, float]
    """By level."""
    shown: dict[str, str]
    """The same with a unit."""


class Inside(BaseModel):
    """What happened in the network while it looked at a picture."""

    model: str
    steps: int
    """Time steps T."""
    neurons: int
    rate: float
    """Mean spikes per neuron and time step, over all layers."""
    density: float
    layers: list[Layer]
    rasters: list[Raster]
    levels: dict[str, str]
    """What each level of the ledger counts."""
    energy: list[Energy]
    sentences: list[str]
    """The spiking network with int8 weights against its int8 twin, level by level."""


def engine_of(batched: Batched) -> Engine[Image] | None:
    """Return the engine whose spikes can be watched; None where the encoder has none, or does not spike."""
    encoder: Encoder = batched.encoder
    if not isinstance(encoder, Runtime) or any(
        neuron.kind == "relu" for neuron in _neurons(encoder.image.graph)
    ):
        return None
    return encoder.image


def warm_up(batched: Batched, images_NHWC: np.ndarray) -> None:
    """Run once what is watched: kernels are compiled then."""
    engine = engine_of(batched)
    if engine is not None:
        engine(images_NHWC, lambda name, levels: None)


def routes(encoder: Batched, settings: Settings) -> APIRouter:
    """Return /v1/inspect."""
    router, engine = APIRouter(prefix="/v1", tags=["look inside"]), engine_of(encoder)
    size, conventions = encoder.image_format.image_size, load_conventions()

    @router.post("/inspect")
    def inspect(
        picture: Annotated[UploadFile, File(description="A picture file.")],
        layers: Annotated[
            list[str] | None,
            Form(description="Layers of neurons to draw; the first, the middle and the last by default."),
        ] = None,
    ) -> Inside:
        """Show the spikes that a picture causes, and what they cost beside the ordinary twins."""
        if engine is None:
            raise Refused(
                400,
                f"{encoder.name} runs without spikes that can be watched: start the server with a spiking model "
                "on the engine (--engine int8)",
            )
        graph = engine.graph
        chosen = layers or _default(graph)
        if len(chosen) > RASTERS:
            raise Refused(400, f"{len(chosen)} layers, the bound is {RASTERS}")
        neurons = {neuron.name: neuron for neuron in _neurons(graph)}
        if missing := next((name for name in chosen if name not in neurons), None):
            raise unknown("layer", missing, neurons)
        pixels_NHWC = pixels_of(picture.file.read(), size, settings)[None]
        group, shapes, rasters = encoder.alone(partial(_watched, engine, pixels_NHWC, chosen))
        costs = tower_energy(graph, [group], conventions)
        firing = all_firing([group])
        return Inside(
            model=encoder.name,
            steps=max(neuron.T for neuron in neurons.values()),
            neurons=sum(int(f.neurons) for f in firing.values()),
            rate=costs["rate"],
            density=_density(list(firing.values())),
            layers=[
                Layer(
                    name=name,
                    shape=shapes[name],
                    highest=_highest(neurons[name]),
                    rate=f.rate,
                    density=f.density,
                    rates_by_step=f.rate_T.tolist(),
                )
                for name, f in firing.items()
            ],
            rasters=[rasters[name] for name in dict.fromkeys(chosen)],
            levels=MEANING,
            energy=[
                Energy(
                    network=name,
                    spiking=name in {network.name for network in SPIKING},
                    joules=joules,
                    shown={level: amount(j) for level, j in joules.items()},
                )
                for name, joules in costs["joules"].items()
            ],
            sentences=_sentences(costs["joules"]),
        )

    return router


def _watched(
    engine: Engine[Image], pixels_NHWC: np.ndarray, chosen: list[str]
) -> tuple[Group, dict[str, list[int]], dict[str, Raster]]:
    """Run a picture by its events: how every layer fired, its shape, and the chosen ones drawn."""
    neurons = {neuron.name: neuron for neuron in _neurons(engine.graph)}
    shapes: dict[str, list[int]] = {}
    rasters: dict[str, Raster] = {}

    def run(batch: np.ndarray, watch: Watch) -> np.ndarray:
        def both(name: str, level_TBX: np.ndarray) -> None:
            watch(name, level_TBX)
            shapes[name] = list(level_TBX.shape[2:])
            if name in chosen:
                rasters[name] = _raster(neurons[name], level_TBX[:, 0])

        return engine(batch, both)

    _, (group,) = measure_firing(run, [pixels_NHWC])
    return group, shapes, rasters


def _raster(neuron: Neuron, level_TX: np.ndarray) -> Raster:
    level_TN = level_TX.reshape(len(level_TX), -1)
    chosen = np.linspace(0, level_TN.shape[1] - 1, min(NEURONS, level_TN.shape[1])).astype(int)
    return Raster(
        name=neuron.name,
        signed=neuron.signed,
        highest=_highest(neuron),
        rows=level_TN[:, chosen].T.tolist(),
        map=_map(level_TX) if level_TX.ndim == 4 else None,
    )


def _map(level_THWC: np.ndarray) -> list[list[float]]:
    """Mean spikes at every place, in blocks where there are many."""
    mean_HW = np.abs(level_THWC).mean((0, 3))
    side = -(-max(mean_HW.shape) // PLACES)
    H, W = (length // side * side for length in mean_HW.shape)
    blocks = mean_HW[:H, :W].reshape(H // side, side, W // side, side).mean((1, 3))
    return np.round(blocks, 3).tolist()


def _neurons(graph: Graph) -> list[Neuron]:
    return [op for op in graph.ops if isinstance(op, Neuron)]


def _highest(neuron: Neuron) -> int:
    return neuron.D if neuron.kind == "ilif" else 1


def _default(graph: Graph) -> list[str]:
    names = [neuron.name for neuron in _neurons(graph)]
    return list(dict.fromkeys((names[0], names[len(names) // 2], names[-1])))


def _density(firing: list[Firing]) -> float:
    places = sum(f.neurons * len(f.active_T) for f in firing)
    return sum(float(f.active_T.sum()) for f in firing) / places


def _sentences(joules: dict[str, dict[str, float]]) -> list[str]:
    spiking = SPIKING[1].name
    twin = next(twin for own, twin in pairs({"image": {"joules": joules}}) if own == spiking)
    return [
        f"{level}, {MEANING[level].split(' (')[0]}: {amount(joules[spiking][level])}, "
        f"{against(joules[spiking][level], twin, joules[twin][level])}."
        for level in LEVELS
        if level in joules[spiking]
    ]
