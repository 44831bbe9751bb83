"""The built-in set: coloured shapes with captions, drawn from a seed; some pairs are never in training."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from spikeclip.data.images import Images
from spikeclip.data.pictures import Pictures
from spikeclip.errors import InputError, unknown

COLOURS = {
    "red": (225, 35, 35),
    "green": (35, 165, 55),
    "blue": (45, 95, 250),
    "yellow": (250, 225, 40),
    "purple": (150, 45, 190),
    "cyan": (40, 215, 225),
    "pink": (250, 140, 185),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring", "star", "bar")
SIZES = {"small": 0.14, "medium": 0.205, "large": 0.28}
"""Radius as a share of the picture's side."""
POSITIONS = {
    "at the top left": (-1, -1),
    "at the top": (0, -1),
    "at the top right": (1, -1),
    "on the left": (-1, 0),
    "in the center": (0, 0),
    "on the right": (1, 0),
    "at the bottom left": (-1, 1),
    "at the bottom": (0, 1),
    "at the bottom right": (1, 1),
}
"""Steps (x to the right, y down) from the centre."""
BACKGROUNDS = {"black": (12, 12, 12), "gray": (110, 110, 110), "brown": (95, 60, 30), "navy": (20, 25, 75)}

PAIRS = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
"""Class names: every colour with every shape, seen in training or not."""
HELD_OUT = sorted(
    [8 * i + i for i in range(8)] + [8 * i + (i + 3) % 8 for i in range(5)],
)
"""Indices into PAIRS kept out of training: 13 of 64, one or two of each colour and of each shape."""
COUNTS = {"train": 12_000, "test": 2_000, "heldout": 1_000}

_STEP = 0.2  # from the centre to the next position, as a share of the side
_NOISE = 5.0  # standard deviation of the pixel noise, of 255


def shapes(split: str, count: int | None = None, image_size: int = 32, seed: int = 0) -> Pictures:
    """Draw a split of the built-in set: (N, image_size, image_size, 3), one shape and three captions each.

    "train" and "test" hold only pairs outside HELD_OUT, "heldout" only pairs inside; labels index PAIRS. The
    first caption names every attribute. Equal arguments give equal pictures. Raises `InputError` for another
    split, or a count or size that is too small.
    """
    if split not in COUNTS:
        raise unknown("split of shapes", split, COUNTS)
    count = COUNTS[split] if count is None else count
    if count < 1 or image_size < 8:
        raise InputError(
            f"shapes needs at least 1 picture of 8 pixels, got count={count}, image_size={image_size}"
        )
    rng = np.random.default_rng([seed, list(COUNTS).index(split)])
    pairs = np.array(HELD_OUT) if split == "heldout" else np.setdiff1d(np.arange(len(PAIRS)), HELD_OUT)
    labels = rng.permutation(np.resize(rng.permutation(pairs), count)).astype(np.int64)
    sizes, positions, backgrounds = (
        rng.integers(len(of), size=count) for of in (SIZES, POSITIONS, BACKGROUNDS)
    )
    attributes = np.stack([labels, sizes, positions, backgrounds])
    wordings = rng.integers(len(_SHORT) * len(_LONG), size=count)
    captions = [_captions(*row) for row in np.vstack([attributes, wordings]).T.tolist()]
    images = np.empty((count, image_size, image_size, 3), np.uint8)
    for start in range(0, count, 500):
        chunk = slice(start, start + 500)
        images[chunk] = _draw(attributes[:, chunk], image_size, rng)
    digest = hashlib.sha256(images.tobytes())
    digest.update(json.dumps([split, labels.tolist(), PAIRS, captions]).encode())
    ids = [f"{split}/{i}" for i in range(count)]
    return Pictures("shapes", split, Images([images]), ids, digest.hexdigest(), labels, list(PAIRS), captions)


_LONG = (
    "a {color} {shape} {position}, {size}, on {background}",
    "there is a {size} {color} {shape} {position}",
    "a {size} {shape} in {color} {position} of a {background} picture",
    "a {background} background with a {size} {color} {shape}",
)
_SHORT = (
    "a photo of a {color} {shape}",
    "a {color} {shape}",
    "a picture of the {color} {shape}",
    "{color} {shape}",
)


def _captions(label: int, size: int, position: int, background: int, wording: int) -> list[str]:
    color, shape = PAIRS[label].split()
    words = {
        "color": color,
        "shape": shape,
        "size": list(SIZES)[size],
        "position": list(POSITIONS)[position],
        "background": list(BACKGROUNDS)[background],
    }
    full = "a {size} {color} {shape} {position} on a {background} background"
    templates = (full, _SHORT[wording % len(_SHORT)], _LONG[wording // len(_SHORT)])
    return [template.format(**words) for template in templates]


def _draw(attributes: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Render attributes (4, B) = label, size, position, background to (B, side, side, 3) uint8."""
    labels, sizes, positions, backgrounds = attributes
    colours, kinds = np.divmod(labels, len(SHAPES))
    count = labels.size

    def jitter(low: float, high: float, *shape: int) -> np.ndarray:
        return rng.uniform(low, high, (count, *shape)).astype(np.float32)

    radius_B = side * np.array(list(SIZES.values()), np.float32)[sizes] * jitter(0.92, 1.08)
    steps = np.array(list(POSITIONS.values()), np.float32)[positions]
    centre_B2 = side * (0.5 + _STEP * steps + jitter(-0.025, 0.025, 2))
    angle_B = jitter(-0.15, 0.15)
    grid = np.arange(side, dtype=np.float32) + 0.5
    x_BHW = (grid[None, None, :] - centre_B2[:, 0, None, None]) / radius_B[:, None, None]
    y_BHW = (grid[None, :, None] - centre_B2[:, 1, None, None]) / radius_B[:, None, None]
    cos, sin = np.cos(angle_B)[:, None, None], np.sin(angle_B)[:, None, None]
    x_BHW, y_BHW = cos * x_BHW + sin * y_BHW, cos * y_BHW - sin * x_BHW

    distance_BHW = np.empty((count, side, side), np.float32)
    for kind, shape in enumerate(SHAPES):
        members = kinds == kind
        distance_BHW[members] = _distance(shape, x_BHW[members], y_BHW[members])
    # One pixel of ramp around the edge: the share of the pixel that the shape covers.
    cover_BHW1 = np.clip(0.5 - distance_BHW * radius_B[:, None, None], 0, 1)[..., None]

    ink = np.array(list(COLOURS.values()), np.float32)[colours] + jitter(-14, 14, 3)
    paper = np.array(list(BACKGROUNDS.values()), np.float32)[backgrounds] + jitter(-8, 8, 3)
    images = paper[:, None, None] + cover_BHW1 * (ink - paper)[:, None, None]
    images += _NOISE * rng.standard_normal(images.shape, np.float32)
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def _distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to the outline of a shape of radius 1 (y down), negative inside, exact at the sides."""
    ax, ay = np.abs(x), np.abs(y)
    match shape:
        case "circle":
            return np.hypot(x, y) - 0.95
        case "square":
            return np.maximum(ax, ay) - 0.82
        case "triangle":
            y = y - 0.15
            return np.maximum(0.866 * ax - 0.5 * y, y) - 0.58
        case "diamond":
            return (1.7 * ax + ay - 1.1) / np.float32(np.hypot(1.7, 1))
        case "cross":
            return np.minimum(np.maximum(ax - 0.28, ay - 1), np.maximum(ax - 1, ay - 0.28))
        case "ring":
            return np.abs(np.hypot(x, y) - 0.8) - 0.22
        case "star":
            return _star(ax, y)
        case _:
            return np.maximum(ax - 1.05, ay - 0.3)


def _star(ax: np.ndarray, y: np.ndarray, outer: float = 1.15, inner: float = 0.46) -> np.ndarray:
    """Five-pointed star, one tip up: fold every tip onto one, then the distance to the tip's side."""
    wedge = np.float32(2 * np.pi / 5)
    angle = np.abs((np.arctan2(ax, -y) + wedge / 2) % wedge - wedge / 2)
    radius = np.hypot(ax, y)
    px, py = radius * np.sin(angle), radius * np.cos(angle)
    valley_x, valley_y = inner * np.sin(np.pi / 5), inner * np.cos(np.pi / 5)
    along = np.array([valley_x, valley_y - outer])
    nx, ny = np.array([-along[1], along[0]], np.float32) / np.float32(np.hypot(*along))
    return px * nx + (py - np.float32(outer)) * ny
