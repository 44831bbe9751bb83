"""The whole spiking tower fitted to the ordinary one on a few hundred pictures, its levels in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikeclip.config import AugmentConfig, ImageConfig
from spikeclip.convert.fit import Fitted, cosine, relative_error
from spikeclip.convert.settings import ConvertSettings
from spikeclip.data.draws import Draws
from spikeclip.data.images import Images
from spikeclip.data.transforms import augment, normalize
from spikeclip.neurons import Neuron, record


class Distillation:
    """Steps of Adam on answers, features and the outputs of all parts; `state` is what goes on in another process.

    fitted: all parts of a tower. readout: the ordinary classifier, from features to logits.
    """

    def __init__(self, fitted: Fitted, readout: nn.Linear, settings: ConvertSettings) -> None:
        self.fitted, self.readout, self.settings = fitted, readout, settings
        self.optimizer = fitted.optimizer(settings.distil_rate)
        self.schedule = cosine(self.optimizer, settings.distil_steps)
        self.step = 0

    def run(self, images: Images, config: ImageConfig) -> Iterator[dict[str, float]]:
        """Do the steps that are left on crops of pictures (N, H, W, 3); yields the losses of each."""
        while self.step < self.settings.distil_steps:
            yield self.learn(crops(images, self.step, self.settings, config).to(self.readout.weight.device))
        self.fitted.write()

    def learn(self, x_TBCHW: Tensor) -> dict[str, float]:
        """Do one step on normalised pictures (1, B, 3, H, W)."""
        with torch.no_grad():
            wanted, out = [], x_TBCHW
            for part in self.fitted.ordinary:
                out = part.module(out)
                wanted.append(out)
            answers = self.readout(wanted[-1][0]).log_softmax(1)
        with ExitStack() as stack:
            levels = [
                stack.enter_context(record(part.module, spikes_and_neurons)) for part in self.fitted.parts
            ]
            found = list(self.fitted.outputs(x_TBCHW))
        errors = [relative_error(y, target) for y, target in zip(found, wanted, strict=True)]
        given = self.readout(found[-1][0]).log_softmax(1)
        divergence = F.kl_div(given, answers, log_target=True, reduction="batchmean")
        blocks = torch.stack(errors[:-1]).mean() if len(errors) > 1 else errors[-1].new_zeros(())
        spikes, neurons = torch.stack([pair for table in levels for pair in table.values()]).sum(0)
        rate = spikes / neurons
        loss = divergence + errors[-1] + blocks
        if self.settings.mean_spikes is not None:
            loss = loss + 2 * F.relu(rate - self.settings.mean_spikes)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        values = {"answers": divergence, "features": errors[-1], "blocks": blocks, "mean spikes": rate}
        return {name: float(value.detach()) for name, value in values.items()}

    def state(self) -> dict[str, Any]:
        """Return the numbers, the optimizer and the step."""
        numbers = [value.detach() for value in self.fitted.numbers()]
        return {"step": self.step, "numbers": numbers, "optimizer": self.optimizer.state_dict()}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        for value, stored in zip(self.fitted.numbers(), state["numbers"], strict=True):
            value.copy_(stored)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = self.schedule.last_epoch = state["step"]


def crops(images: Images, step: int, settings: ConvertSettings, config: ImageConfig) -> Tensor:
    """Return the pictures of a step, moved and flipped at random, the same in every process: (1, B, 3, H, W)."""
    batch = min(settings.batch_size, len(images))
    epoch, place = divmod(step, len(images) // batch)
    order = np.random.default_rng((settings.seed, epoch)).permutation(len(images))
    chosen = order[place * batch :][:batch]
    return view(images, chosen, Draws(settings.seed, epoch, torch.from_numpy(chosen)), config)[None]


def view(images: Images, chosen_B: np.ndarray, draws: Draws, config: ImageConfig) -> Tensor:
    """Return pictures moved and flipped as drawn, normalised (B, 3, H, W)."""
    pictures_BHWC = torch.from_numpy(np.ascontiguousarray(images[chosen_B]))
    change = AugmentConfig(crop=config.image_size // 8, flip="random")
    return normalize(augment(pictures_BHWC, change, draws, config.mean), config.mean, config.std)


def spikes_and_neurons(neuron: Neuron, s_TX: Tensor) -> Tensor:
    """Return the spikes and how many neurons they are of, (2,)."""
    return torch.stack([s_TX.abs().sum() * neuron.levels, s_TX.new_tensor(float(s_TX.numel()))])
