"""From a pretrained ordinary network to a spiking tower, without training: read weights, choose ranges, fit parts."""
