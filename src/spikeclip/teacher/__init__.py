"""Teachers, and the store of their embeddings."""

from spikeclip.teacher.base import Teacher
from spikeclip.teacher.cache import (
    cached_image_embeddings,
    cached_text_embeddings,
    teacher_image_embeddings,
)
from spikeclip.teacher.open import is_image_network, open_teacher

__all__ = [
    "Teacher",
    "cached_image_embeddings",
    "cached_text_embeddings",
    "is_image_network",
    "open_teacher",
    "teacher_image_embeddings",
]
