"""Parts of a spiking tower fitted to the same parts of the ordinary one, with the levels in place.

Range r and weights w of the ordinary scale are fitted; the neuron divides by r, and the weights behind it are w r, so
that a range moves both (the learned step sizes of arXiv 1902.08153).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from spikeclip.convert.parts import Part
from spikeclip.convert.ranges import along_inputs


class Fitted:
    """The numbers of one or several consecutive parts that are fitted: log ranges, weights, biases.

    They start as `parts`, the spiking ones, are. `ordinary`: the same parts of the folded ordinary network.
    """

    def __init__(self, parts: Sequence[Part], ordinary: Sequence[Part]) -> None:
        self.parts, self.ordinary = parts, ordinary
        self.ranges: list[dict[str, Tensor]] = []
        self.weights: list[dict[str, Tensor]] = []
        self.biases: list[dict[str, Tensor]] = []
        for part in parts:
            readers = {synapse: neuron for neuron, synapse in part.readings.items()}
            ranges = {
                name: neuron.range_C for name, neuron in part.neurons.items() if neuron.range_C is not None
            }
            weights, biases = {}, {}
            for name, synapse in part.synapses.items():
                weight = synapse.conv.weight.detach().clone()
                if name in readers:
                    weight /= along_inputs(ranges[readers[name]], weight)
                weights[name] = weight.requires_grad_()
                biases[name] = synapse.bn.bias.detach().clone().requires_grad_()
            self.ranges.append(
                {name: value.detach().log().requires_grad_() for name, value in ranges.items()}
            )
            self.weights.append(weights)
            self.biases.append(biases)

    def numbers(self) -> list[Tensor]:
        """Return the tensors that are fitted."""
        return [
            value
            for tables in (self.ranges, self.weights, self.biases)
            for t in tables
            for value in t.values()
        ]

    def optimizer(self, rate: float) -> torch.optim.Optimizer:
        """Return Adam for them. rate: the step of a log range, and of others in root mean squares of their tensor."""
        ranges = [value for table in self.ranges for value in table.values()]
        groups = [
            {"params": [value], "lr": rate * max(1e-3, float(value.detach().square().mean().sqrt()))}
            for value in self.numbers()[len(ranges) :]
        ]
        return torch.optim.Adam([{"params": ranges, "lr": rate}, *groups], betas=(0.9, 0.99))

    def values(self, index: int) -> dict[str, Tensor]:
        """Return the tensors of part `index` by their names in it, differentiable."""
        part = self.parts[index]
        readers = {synapse: neuron for neuron, synapse in part.readings.items()}
        ranges = {}
        for name, log_range in self.ranges[index].items():
            ceiling = getattr(self.ordinary[index].module.get_submodule(name), "ceiling", None)
            ranges[name] = log_range.exp() if ceiling is None else log_range.exp().clamp(max=ceiling)
        values = {f"{name}.range_C": value for name, value in ranges.items()}
        for name, weight in self.weights[index].items():
            scale = along_inputs(ranges[readers[name]], weight) if name in readers else 1
            values[f"{name}.conv.weight"] = weight * scale
            values[f"{name}.bn.bias"] = self.biases[index][name]
        return values

    def outputs(self, x_TBCHW: Tensor) -> Iterator[Tensor]:
        """Yield the output of every part, one after the other."""
        for index, part in enumerate(self.parts):
            x_TBCHW = functional_call(part.module, self.values(index), (x_TBCHW,))
            yield x_TBCHW

    @torch.no_grad()
    def write(self) -> None:
        """Put the numbers into the tower."""
        for index, part in enumerate(self.parts):
            state = {**dict(part.module.named_parameters()), **dict(part.module.named_buffers())}
            for name, value in self.values(index).items():
                state[name].copy_(value)


def relative_error(x: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared error in variances of what is wanted."""
    return (x - wanted).square().mean() / wanted.var(correction=0).clamp(min=1e-12)


def reconstruct(
    fitted: Fitted, batches: Sequence[tuple[Tensor, Tensor]], steps: int, rate: float, seed: int = 0
) -> Iterator[float]:
    """Fit parts so that their output is the ordinary one; yields the relative error of each step's batch.

    batches: what the first part reads, and the ordinary output of the last one. seed: of their order.
    """
    optimizer = fitted.optimizer(rate)
    schedule = cosine(optimizer, steps)
    order = torch.randperm(steps, generator=torch.Generator().manual_seed(seed)) % len(batches)
    for index in order.tolist():
        x, wanted = batches[index]
        *_, out = fitted.outputs(x)
        error = relative_error(out, wanted)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
        yield float(error.detach())
    fitted.write()


def cosine(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a schedule that rises for a tenth of the steps, then falls to zero along a cosine."""

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / max(1, steps // 10)) * 0.5 * (1 + math.cos(math.pi * step / steps))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
