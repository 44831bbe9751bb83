"""Start a LIF network from the weights of an I-LIF network: `python -m benchmarks.to_lif runs/ilif runs/lif-start`.

A recipe with `model: {pretrained: runs/lif-start}` then adapts it.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from benchmarks.command import run
from spikeclip.config import NeuronConfig
from spikeclip.errors import InputError
from spikeclip.model import SpikeCLIP, from_pretrained

THRESHOLD = 0.62
"""Of the standard deviation of a current, which BatchNorm makes 1. The mean spikes of LIF (tau=2, T=4) then go
with the level of I-LIF (D=4) by a correlation of 0.93, 0.89 and 0.86 for ranges of 2, 3 and 4 and constant normal
currents; with 1 by 0.80, 0.83 and 0.77. At D=8 over 4 it is 0.92.
"""


def to_lif(source: SpikeCLIP, T: int = 4) -> SpikeCLIP:
    """Return the network with LIF neurons over T steps and the same weights, to be trained further.

    Its neurons fire on another scale than those before, which each BatchNorm behind them measures in training.
    Raises `InputError` for another neuron, and for ranges that were learned, which LIF has no place for.
    """
    neuron = source.config.neuron
    if neuron.kind != "ilif" or neuron.learn_range:
        raise InputError(
            f"expected neuron=ilif with a fixed range, got neuron={neuron.kind}, learn_range={neuron.learn_range}"
        )
    lif = NeuronConfig(kind="lif", T=T, tau=2.0, v_threshold=THRESHOLD)
    model = SpikeCLIP(dataclasses.replace(source.config, neuron=lif), source.tokenizer, source.taught)
    model.load_state_dict(source.state_dict())
    return model.eval()


def main() -> None:
    """Read the folders, convert and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="saved I-LIF model, or a run with one in it")
    parser.add_argument("out", type=Path, help="folder for the LIF model")
    parser.add_argument("--T", type=int, default=4, help="time steps")
    arguments = parser.parse_args()
    to_lif(from_pretrained(arguments.source), arguments.T).save_pretrained(arguments.out)


if __name__ == "__main__":
    run(main)
