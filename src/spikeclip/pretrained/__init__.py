"""From what a person typed to a folder with a model; needs no PyTorch."""
