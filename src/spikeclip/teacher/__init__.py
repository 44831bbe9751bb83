"""Teachers, and the store of what they say."""

from spikeclip.teacher.base import Teacher
from spikeclip.teacher.cache import cached_image_embeddings, cached_text_embeddings

__all__ = ["Teacher", "cached_image_embeddings", "cached_text_embeddings"]
