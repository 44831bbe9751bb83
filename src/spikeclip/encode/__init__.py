"""The one face of everything that embeds pictures and texts, and what is done with it; needs no PyTorch."""
