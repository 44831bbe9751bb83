"""A conversion from start to end: ranges, part after part, the whole network, mirrors; a kill loses one part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikeclip.config import ImageConfig, ModelConfig, to_dict
from spikeclip.convert.checkpoint import Checkpoint
from spikeclip.convert.distil import Distillation, view
from spikeclip.convert.features import agreement, normalized, set_readout
from spikeclip.convert.fit import Fitted, reconstruct, relative_error
from spikeclip.convert.mirror import mirror
from spikeclip.convert.parts import parts_of
from spikeclip.convert.ranges import choose_ranges
from spikeclip.convert.report import Report
from spikeclip.convert.sample import Sample
from spikeclip.convert.settings import ConvertSettings
from spikeclip.data.draws import Draws
from spikeclip.data.images import Images
from spikeclip.errors import InputError
from spikeclip.neurons import ILIF, record
from spikeclip.towers import image_tower
from spikeclip.towers.network import Network, folded
from spikeclip.towers.separable import SeparableTower
from spikeclip.towers.weights import weights_hash

_RANGE_PICTURES = 48
"""Pictures that the first ranges are chosen from."""
_EVERY = 25
"""Steps of the whole network between checkpoints."""


@dataclass(frozen=True)
class Conversion:
    """A converted tower; `config.embed_dim` are the classes of the ordinary network.

    record: on pictures held out, per part the relative squared error of its output and, after each phase, the agreement
    with the ordinary network; and the settings.
    """

    config: ModelConfig
    tower: SeparableTower
    record: dict[str, Any]


def convert(
    network: Network,
    pictures: Sample,
    held_out: Sample,
    settings: ConvertSettings,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    report: Report | None = None,
) -> Conversion:
    """Turn an ordinary network into a spiking tower, fitted on `pictures` and measured on `held_out`.

    device: where it is computed, "cpu" or "cuda"; the tower comes back to the processor. checkpoint: file that the same
    call goes on from after a kill; the caller removes it. Raises `InputError` for pictures of another size, none at
    all, a device that is not there, and the checkpoint of another conversion.
    """
    for sample in (pictures, held_out):
        _check(sample, network.config.image)
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise InputError(f"no device {device!r} here: it is cpu, or cuda where PyTorch finds a GPU")
    if settings.neuron == "relu":
        return _unchanged(network, held_out, settings)
    kept = Checkpoint(checkpoint, _key(network, pictures, settings))
    with report or Report() as told:
        return _Job(network, pictures, held_out, settings, kept, told, device).run()


class _Job:
    """One conversion: what it works on, and its phases."""

    def __init__(
        self,
        network: Network,
        pictures: Sample,
        held_out: Sample,
        settings: ConvertSettings,
        checkpoint: Checkpoint,
        report: Report,
        device: str,
    ) -> None:
        self.network, self.pictures, self.held_out = network, pictures, held_out
        self.settings, self.checkpoint, self.report, self.device = settings, checkpoint, report, device
        ordinary = folded(network.tower)
        self.config = spiking_config(network, settings)
        tower = image_tower(self.config.image, self.config.neuron, self.config.embed_dim)
        assert isinstance(tower, SeparableTower)
        tower.load_state_dict(ordinary.state_dict())
        self.tower, self.ordinary = (
            each.eval().requires_grad_(False).to(device) for each in (tower, ordinary)
        )
        self.parts, self.models = parts_of(self.tower), parts_of(self.ordinary)
        self.progress: dict[str, Any] = {
            "phase": 0,
            "pass": 0,
            "done": 0,
            "before": [],
            "after": [],
            "agreement": {},
        }

    def run(self) -> Conversion:
        if (state := self.checkpoint.load()) is not None:
            self.tower.load_state_dict(state["tower"])
            self.progress = state["progress"]
            self.report.line(f"going on from {self.checkpoint.file}")
        self.report.begin(self._costs())
        if self.progress["phase"] == 0:
            self._ranges()
        if self.progress["phase"] == 1:
            self._fit_parts()
        if self.progress["phase"] == 2:
            self._distil(state.get("distillation") if state is not None else None)
        if self.progress["phase"] == 3:
            self._mirror()
        self._set_readout()
        return Conversion(self.config, self.tower.cpu(), self._record())

    def _ranges(self) -> None:
        x = self._some()
        compared = self._compared()
        for index, (part, model) in enumerate(zip(self.parts, self.models, strict=True)):
            x = choose_ranges(part, model, x)
            self.progress["before"].append(compared(index))
        self._next_phase("ranges")

    def _fit_parts(self) -> None:
        for number in range(self.progress["pass"], self.settings.passes):
            self._fit_once(number)
            self.progress.update({"pass": number + 1, "done": 0})
        self._next_phase("parts")

    def _fit_once(self, number: int) -> None:
        """Fit every part that is left in a pass; the first one has the pictures as they are."""
        settings, first = self.settings, self.progress["done"]
        found = self._views(number) if number else self._normalized(self.pictures.images)
        wanted = list(found)
        compared = self._compared()
        rate, seed = settings.rate / 2 ** min(number, 1), settings.seed + number * len(self.parts)
        for index, (part, model) in enumerate(zip(self.parts, self.models, strict=True)):
            wanted = [model.module(x) for x in wanted]
            if index >= first:
                pairs = list(zip(found, wanted, strict=True))
                fitted = Fitted([part], [model])
                steps = reconstruct(fitted, pairs, settings.steps, rate, seed + index)
                for error in steps if settings.steps else ():
                    self.report.step(part.name, index, f"error {error:.4f}")
            with torch.no_grad():
                found = [part.module(x) for x in found]
            error = compared(index)
            if index >= first:
                self.progress["after"][index:] = [error]
                self.progress["done"] = index + 1
                before = self.progress["before"][index]
                self.report.line(f"{part.name}: error {before:.3f} by ranges alone, {error:.3f} fitted")
                self._save()

    def _distil(self, state: dict[str, Any] | None) -> None:
        if not self.settings.distil_steps:
            self.progress["phase"] += 1
            return
        work = Distillation(Fitted(self.parts, self.models), self.ordinary.readout.linear, self.settings)
        if state is not None:
            work.load(state)
        for losses in work.run(self.pictures.images, self.config.image):
            shown = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
            self.report.step("whole network", len(self.parts), shown)
            if work.step % _EVERY == 0:
                self._save(distillation=work.state())
        self._next_phase("whole network")

    def _mirror(self) -> None:
        count = mirror(self.parts, self._some())
        self.report.line(f"{count} channels fire the levels that they did not")
        self._next_phase("mirroring")

    def _next_phase(self, name: str) -> None:
        """Measure the agreement after a phase, and keep what it made."""
        self._set_readout()
        result = agreement(self.tower, self.ordinary, self.held_out, self.config.image)
        self.progress["agreement"][name] = result
        self.progress["phase"] += 1
        shown = f"{100 * result['top1']:.1f} % of the answers, cosine of features {result['cosine']:.3f}"
        self.report.line(f"after {name}: {shown}, {result['mean_spikes']:.2f} spikes per neuron")
        self._save()

    def _set_readout(self) -> None:
        linear = self.ordinary.readout.linear
        set_readout(self.tower, linear.weight, linear.bias)
        self.tower.requires_grad_(False)

    def _some(self) -> Tensor:
        """Return the pictures that ranges and mirrors are chosen from, as one batch."""
        images = self.pictures.images
        few = images.subset(np.arange(min(_RANGE_PICTURES, len(images))))
        return normalized(few, _RANGE_PICTURES, self.config.image)[0][None].to(self.device)

    def _normalized(self, images: Images) -> list[Tensor]:
        batches = normalized(images, self.settings.batch_size, self.config.image)
        return [x[None].to(self.device) for x in batches]

    def _compared(self) -> Callable[[int], float]:
        """Return what runs the pictures held out through part 0, part 1, ... and says the relative error after each."""
        found = self._normalized(self.held_out.images)
        wanted = list(found)

        @torch.no_grad()
        def error(index: int) -> float:
            found[:] = [self.parts[index].module(x) for x in found]
            wanted[:] = [self.models[index].module(x) for x in wanted]
            return float(np.mean([float(relative_error(x, y)) for x, y in zip(found, wanted, strict=True)]))

        return error

    def _views(self, number: int) -> list[Tensor]:
        images, size, seed = self.pictures.images, self.settings.batch_size, self.settings.seed
        batches = [np.arange(i, min(i + size, len(images))) for i in range(0, len(images), size)]
        return [
            view(images, chosen, Draws(seed, number, torch.from_numpy(chosen)), self.config.image)[None].to(
                self.device
            )
            for chosen in batches
        ]

    def _save(self, **more: Any) -> None:
        self.checkpoint.save({"tower": self.tower.state_dict(), "progress": self.progress, **more})

    def _costs(self) -> list[tuple[float, int, int]]:
        """Return (cost of a step, steps, steps done) of every part and of the whole network, as far as they differ."""
        side = self.config.image.image_size
        x, costs = torch.zeros(1, 1, 3, side, side, device=self.device), []
        for model in self.models:
            with (
                record(model.module, lambda neuron, s: torch.tensor(float(s.numel()))) as sizes,
                torch.no_grad(),
            ):
                x = model.module(x)
            costs.append(sum(float(size) for size in sizes.values()))
        phase, steps = self.progress["phase"], self.settings.steps
        passed = [self.progress["pass"] + (i < self.progress["done"]) for i in range(len(costs))]
        parts = [
            (cost, steps * self.settings.passes, steps * n) for cost, n in zip(costs, passed, strict=True)
        ]
        whole = self.settings.distil_steps
        return [*parts, (1.3 * sum(costs), whole, whole if phase > 2 else 0)]

    def _record(self) -> dict[str, Any]:
        names = [part.name for part in self.parts]
        after = self.progress["after"] or [None] * len(names)
        errors = zip(names, self.progress["before"], after, strict=True)
        return {
            "network": self.network.name,
            "settings": to_dict(self.settings),
            "levels": {name: n.D for name, n in self.tower.named_modules() if isinstance(n, ILIF)},
            "pictures": len(self.pictures.images),
            "held_out": len(self.held_out.images),
            "errors": [{"part": name, "ranges": start, "fitted": end} for name, start, end in errors],
            "agreement": self.progress["agreement"],
        }


def spiking_config(network: Network, settings: ConvertSettings) -> ModelConfig:
    """Return the configuration of the tower that a network becomes: levels and all."""
    neuron = replace(network.config.neuron, kind=settings.neuron, T=1, D=settings.D, range=1.0)
    tower = image_tower(network.config.image, neuron, 1)
    names = [name for name, module in tower.named_modules() if isinstance(module, ILIF)]
    if len(settings.first_D) > len(names):
        raise InputError(f"first_D has {len(settings.first_D)} levels, and the tower {len(names)} neurons")
    finer = network.finer if settings.finer else ()
    levels = [2 * settings.D if name in finer else settings.D for name in names]
    levels[: len(settings.first_D)] = settings.first_D
    for pattern, D in settings.places.items():
        found = [i for i, name in enumerate(names) if fnmatchcase(name, pattern)]
        if not found:
            raise InputError(
                f"no neuron is called {pattern!r}; they are {', '.join(names[:4])}, ... {names[-1]}"
            )
        for i in found:
            levels[i] = D
    while levels and levels[-1] == settings.D:
        levels.pop()
    return replace(network.config, neuron=replace(neuron, first_D=tuple(levels)))


def _unchanged(network: Network, held_out: Sample, settings: ConvertSettings) -> Conversion:
    """The twin: the ordinary network as it is."""
    result = agreement(network.tower, network.tower, held_out, network.config.image)
    record = {"network": network.name, "settings": to_dict(settings), "agreement": {"ordinary": result}}
    return Conversion(network.config, network.tower, record)


def _check(sample: Sample, config: ImageConfig) -> None:
    if not len(sample.images):
        raise InputError("no pictures to convert with, or none left to compare on: more are needed")
    if sample.images.shape[1:] != config.shape:
        raise InputError(f"expected pictures of shape {config.shape}, got {sample.images.shape[1:]}")


def _key(network: Network, pictures: Sample, settings: ConvertSettings) -> str:
    about = [weights_hash(network.tower), to_dict(network.config), pictures.fingerprint, to_dict(settings)]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()
