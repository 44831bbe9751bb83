"""An ordinary image network as a teacher of pictures: what it sees, in the space of a table of embeddings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spikeclip.config import ImageFormat
from spikeclip.data.known import FOLDER_VARIABLE
from spikeclip.data.pictures import Pictures
from spikeclip.data.prompts import load_prompts
from spikeclip.data.transforms import normalize
from spikeclip.encode.pixels import Picture, as_pixels
from spikeclip.encode.spikes import SpikeCounts
from spikeclip.encode.vectors import unit
from spikeclip.errors import InputError
from spikeclip.teacher.base import Teacher
from spikeclip.teacher.folder import combined
from spikeclip.teacher.ridge import Readout, read_readout
from spikeclip.teacher.table import TableTeacher
from spikeclip.towers.network import read_network
from spikeclip.towers.weights import weights_hash

TOP = 10
"""Classes of a picture that count; with all 1,000, the many small probabilities pull every picture to one place."""
PROTOTYPES = Path("clip_teacher") / "imagenet1k_prototypes.npz"
"""Table in $SPIKECLIP_DATA that is read where no table is given."""


class ImageTeacher(Teacher):
    """A network of the ImageNet classes that embeds any picture by way of a table's embeddings of these classes.

    With p_k the probabilities of the TOP most probable classes k and c_k their embeddings, a picture is the unit vector
    along sum_k p_k c_k. Texts are those of the tables, and so are stored embeddings of pictures (`find_images`).

    With a readout, a picture is the unit vector along that linear map of its features, and what the tables store of
    pictures and classes is centred as the readout is.
    """

    def __init__(
        self,
        source: str | Path,
        tables: Sequence[Path],
        device: str = "cpu",
        precision: str = "fp32",
        readout: str | Path | None = None,
    ) -> None:
        """source: see `read_network`. readout: file of `spikeclip teacher readout`.

        Raises `InputError` where the tables lack an ImageNet class, or the network or the readout does not fit them.
        """
        self.tables = TableTeacher(tables or _found_tables(source))
        network = read_network(str(source))
        self.name = f"{network.name}+{self.tables.name}"
        linear = network.tower.requires_grad_(False).readout.linear
        self.head = Readout(linear.weight.numpy().copy(), linear.bias.numpy().copy())
        self.network, self.config = network.tower.to(device), network.config.image
        self.device, self.precision = device, precision
        self.prototypes_KD = _prototypes(self.tables, network.name, network.config.embed_dim)
        self.dim, self.texts, self.logit_scale = self.tables.dim, self.tables.texts, self.tables.logit_scale
        self.image_format = ImageFormat(self.config.image_size)
        self.readout = None if readout is None else read_readout(Path(readout).expanduser())
        if self.readout is not None and self.readout.shape != (self.dim, linear.in_features):
            raise InputError(
                f"{readout} maps features to embeddings as {self.readout.shape[::-1]}; {network.name} and the tables "
                f"need {(linear.in_features, self.dim)}"
            )
        what = [weights_hash(network.tower), str(self.config.image_size), str(TOP), precision]
        what += [self.readout.fingerprint] if self.readout is not None else []
        self.fingerprint = combined("image network", *what, self.tables.fingerprint)

    def encode_image(
        self,
        images: np.ndarray | Sequence[Picture],
        spikes: SpikeCounts | None = None,
        *,
        batch_size: int = 64,
    ) -> np.ndarray:
        """Embed pictures -> (N, dim): uint8 (N, H, W, 3) of any size, or files."""
        assert self.image_format is not None
        images_NHWC = as_pixels(images, self.image_format)
        batches = (images_NHWC[i : i + batch_size] for i in range(0, len(images_NHWC), batch_size))
        rows = [self.embed_features(self.features(batch)) for batch in batches]
        return np.concatenate(rows) if rows else np.empty((0, self.dim), np.float32)

    def features(self, images_BHWC: np.ndarray) -> np.ndarray:
        """Return what the network's head reads of a batch of pictures, uint8 of any size (B, C)."""
        x_BCHW = self._pixels(images_BHWC)
        device = torch.device(self.device).type
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.network.features(x_BCHW)[0].float().cpu().numpy()

    def embed_features(self, features_NC: np.ndarray) -> np.ndarray:
        """Embed pictures by the features that the network's head reads -> (N, dim)."""
        if self.readout is not None:
            return unit(self.readout.map(features_NC))
        logits_NK = self.head(features_NC)
        top = np.argpartition(-logits_NK, TOP, axis=1)[:, :TOP]
        p_NT = np.exp(np.take_along_axis(logits_NK, top, 1) - logits_NK.max(1, keepdims=True))
        return unit((p_NT[..., None] * self.prototypes_KD[top]).sum(1))

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Look texts up in the tables -> (N, dim)."""
        return self.tables.encode_text(texts)

    def knows(self, text: str) -> bool:
        """Whether the tables have this text."""
        return self.tables.knows(text)

    def find_images(self, pictures: Pictures) -> np.ndarray:
        """Return the tables' embeddings of pictures (N, dim), NaN where there is none: the network embeds those."""
        return self._centred(self.tables.find_images(pictures))

    def find_classes(self, keys: Sequence[Sequence[str]]) -> np.ndarray:
        """Return the tables' prototypes of classes (K, dim), NaN where there is none."""
        return self._centred(self.tables.find_classes(keys))

    def _centred(self, found_ND: np.ndarray) -> np.ndarray:
        return found_ND if self.readout is None else unit(found_ND - self.readout.centre_D)

    def _pixels(self, images_BHWC: np.ndarray) -> Tensor:
        """Return pictures as the network reads them: shorter side resized (bicubic, as Pillow), centre, normalised."""
        side = self.config.image_size
        x_BCHW = torch.from_numpy(np.ascontiguousarray(images_BHWC)).permute(0, 3, 1, 2)
        height, width = x_BCHW.shape[2:]
        short = min(height, width)
        if short != side:
            size = (side * height // short, side * width // short)
            x_BCHW = F.interpolate(x_BCHW, size, mode="bicubic", antialias=True)
        top, left = ((length - side) // 2 for length in x_BCHW.shape[2:])
        x_BCHW = x_BCHW[:, :, top : top + side, left : left + side].to(self.device)
        return normalize(x_BCHW.permute(0, 2, 3, 1), *self.config.normalization)


def _found_tables(source: str | Path) -> list[Path]:
    root = os.environ.get(FOLDER_VARIABLE)
    file = Path(root).expanduser() / PROTOTYPES if root else None
    if file is None or not file.is_file():
        raise InputError(
            f"{source} names ImageNet classes, and needs a table of their embeddings: "
            f"teacher.path=[{source}, TABLE.npz]; the table may hold texts and pictures too, and there may be several"
        )
    return [file]


def _prototypes(tables: TableTeacher, network: str, classes_of_network: int) -> np.ndarray:
    """Return the embeddings of the ImageNet classes in label order (1000, dim), of unit length."""
    known = load_prompts("imagenet1k")
    if classes_of_network != len(known.ids):
        raise InputError(
            f"an image teacher names the {len(known.ids)} ImageNet classes, {network} {classes_of_network}"
        )
    classes = list(zip(known.ids, known.classnames, strict=True))
    found_KD = tables.find_classes(classes)
    lacks = [f"{i} ({name})" for (i, name), row in zip(classes, found_KD, strict=True) if np.isnan(row[0])]
    if lacks:
        raise InputError(
            f"{tables.name} lacks {len(lacks)} of the {len(found_KD):,} ImageNet classes that {network} names, such as "
            f"{lacks[0]}: it needs `classes` with `class_embeddings`, or `wnid` with `prototype`, of all of them"
        )
    return unit(found_KD)
