"""The two towers, built from their configuration."""

from spikeclip.towers.image import image_tower
from spikeclip.towers.text import text_tower

__all__ = ["image_tower", "text_tower"]
