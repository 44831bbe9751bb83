"""What holds where nothing else is given. The command line reads it before anything else is imported."""

TEMPLATE = "a photo of a {c}."
"""The prompt of a class; {c} is its name."""
CACHE = "~/.cache/spikeclip"
"""Folder of decoded pictures and teacher embeddings."""
MODEL = "spikeclip-lite0"
"""The model of `classify` where none is named: one that comes with the package."""
