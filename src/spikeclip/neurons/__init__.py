"""Spiking neurons and the ordinary activations they are compared with."""

from spikeclip.neurons.module import (
    ILIF,
    LIF,
    PLIF,
    Neuron,
    QuantReLU,
    ReLU,
    density,
    make_channel_neuron,
    make_neuron,
    mean_spikes,
    record,
    relu_phase,
    set_first,
)

__all__ = [
    "ILIF",
    "LIF",
    "PLIF",
    "Neuron",
    "QuantReLU",
    "ReLU",
    "density",
    "make_channel_neuron",
    "make_neuron",
    "mean_spikes",
    "record",
    "relu_phase",
    "set_first",
]
