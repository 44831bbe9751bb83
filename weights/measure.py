"""Measure a model on pictures, beside the ordinary network it was made of.

    python weights/measure.py MODEL --tower DIR --network NETWORK --nouns FILE --data DIR [--validation] --out FILE

Zero-shot accuracy by the model's own texts ("a photo of a NAME.") and by the embeddings of the real CLIP for the names
that the table of nouns has ("a NAME"). The twin is the same network with ReLU6, the same readout and texts. Agreement
is the share of equal answers of both networks, by the ordinary network's own thousand classes. Captions of Flickr8k
find their pictures by the model's own texts.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import spikeclip
from spikeclip.convert.saved import load_conversion
from spikeclip.data.pictures import Pictures
from spikeclip.data.sources import load_pictures
from spikeclip.defaults import CACHE
from spikeclip.encode.encoder import Encoder
from spikeclip.encode.vectors import unit
from spikeclip.engine import Engine
from spikeclip.evaluate.retrieval import retrieval_metrics
from spikeclip.evaluate.statistics import share_bounds
from spikeclip.graph import ops
from spikeclip.graph.ops import Graph
from spikeclip.graph.saved import load_graphs
from spikeclip.pretrained.resolve import resolve
from spikeclip.progress import tracked
from spikeclip.provenance import environment
from spikeclip.teacher.readout import pooled_features
from spikeclip.towers.network import read_network

BATCH = 16
VALIDATION = {"imagenet_sample": "train", "caltech101": "val", "cifar10": "train", "cifar100": "train"}
"""Splits to choose by. The training photographs of ImageNet are known to the conversion, the others are not."""


class Networks:
    """The spiking network as its int8 graph runs and its twin: pooled features in the ordinary scale, their answers and
    their embeddings.
    """

    def __init__(self, source: str, tower: Path, network: str) -> None:
        self.encoder: Encoder = spikeclip.open_encoder(source, "int8")
        self.twin = read_network(network)
        tensor = load_conversion(tower).tower.head_spike.range_C
        assert tensor is not None
        graph, range_C = load_graphs(resolve(source).folder).image, tensor.numpy()
        readout = graph.ops[-1]
        assert isinstance(readout, ops.Linear)
        self.weight_CD, self.bias_D = readout.weight_IO / range_C[:, None], readout.bias_O
        self.head, self.config = self.twin.tower.readout.linear, self.twin.config.image
        as_features = replace(readout, weight_IO=np.diag(range_C), bias_O=np.zeros_like(range_C))
        self.engine = Engine(Graph([*graph.ops[:-1], as_features]), precision="int8")

    def features(self, part: Pictures) -> tuple[np.ndarray, np.ndarray]:
        starts = tracked(range(0, len(part), BATCH), f"{part.name} {part.split}")
        spiking_NC = np.concatenate([self.engine(np.asarray(part.images[i : i + BATCH])) for i in starts])
        return spiking_NC, np.asarray(pooled_features(self.twin.tower, self.config, part, CACHE))

    def answers(self, features_NC: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self.head(torch.from_numpy(features_NC)).argmax(1).numpy()

    def embed(self, features_NC: np.ndarray) -> np.ndarray:
        return unit(features_NC @ self.weight_CD + self.bias_D)


def accuracy(
    rows_ND: np.ndarray, labels_N: np.ndarray, texts_KD: np.ndarray, among: list[int], top: int = 1
) -> dict:
    """Return the share of pictures of the classes `among` whose class is one of the `top` nearest of these."""
    shown = np.isin(labels_N, among)
    scores_NK = rows_ND[shown] @ texts_KD[among].T
    best = np.array(among)[np.argsort(-scores_NK, axis=1)[:, :top]]
    right = int((best == labels_N[shown][:, None]).any(1).sum())
    count = int(shown.sum())
    return {
        "accuracy": right / count,
        "interval": list(share_bounds(right / count, count)),
        "pictures": count,
    }


def measure(
    nets: Networks, source: str, split: str, limit: int, nouns: dict[str, np.ndarray]
) -> dict[str, Any]:
    part = load_pictures(source, split, nets.config.format, limit=limit)
    names = [("car" if name == "automobile" else name).replace("_", " ") for name in part.classnames]
    spiking, twin = nets.features(part)
    labels = np.asarray(part.labels)
    own = nets.encoder.encode_text([f"a photo of a {name}." for name in names])
    known = [i for i, name in enumerate(names) if name in nouns]
    real = unit(np.stack([nouns.get(name, np.ones_like(nets.bias_D)) for name in names]))
    everything = list(range(len(names)))
    result: dict[str, Any] = {
        "pictures": f"{part.name} {split}, {len(part)}",
        "agreement": float((nets.answers(spiking) == nets.answers(twin)).mean()),
    }
    for network, rows in (("spiking", nets.embed(spiking)), ("twin", nets.embed(twin))):
        result[network] = {
            f"own texts, all {len(names)} names": accuracy(rows, labels, own, everything),
            f"own texts, all {len(names)} names, top 5": accuracy(rows, labels, own, everything, 5),
            f"own texts, {len(known)} names of the table": accuracy(rows, labels, own, known),
            f"real texts, {len(known)} names of the table": accuracy(rows, labels, real, known),
        }
    return result


def retrieve(nets: Networks, source: str, split: str) -> dict[str, Any]:
    """Return the recalls of captions that find their picture and pictures that find one of theirs."""
    part = load_pictures(source, split, nets.config.format)
    assert part.captions is not None
    spiking, twin = nets.features(part)
    texts_MD = nets.encoder.encode_text([text for group in part.captions for text in group])
    picture_M = np.repeat(np.arange(len(part)), [len(group) for group in part.captions])
    return {
        "pictures": f"{part.name} {part.split}, {len(part)}",
        "agreement": float((nets.answers(spiking) == nets.answers(twin)).mean()),
        "spiking": retrieval_metrics(nets.embed(spiking), texts_MD, picture_M),
        "twin": retrieval_metrics(nets.embed(twin), texts_MD, picture_M),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--network", required=True)
    for option in ("--tower", "--nouns", "--out"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--validation", action="store_true", help="other pictures than those of the test")
    parser.add_argument("--limit", type=int, default=1000)
    given = parser.parse_args()
    table = np.load(given.nouns)
    kept = table["unique"]
    nouns = dict(zip(table["names"][kept], table["embeddings"][kept].astype(np.float32), strict=True))
    nets = Networks(given.model, given.tower, given.network)
    sets = VALIDATION if given.validation else dict.fromkeys(VALIDATION, "test")
    results = {
        name: measure(nets, str(given.data / name), split, given.limit, nouns) for name, split in sets.items()
    }
    found = retrieve(nets, str(given.data / "flickr8k"), "val" if given.validation else "test")
    record = {
        "model": nets.encoder.fingerprint,
        "environment": environment(),
        "sets": results,
        "retrieval": found,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(record, indent=1) + "\n")
    for name, result in results.items():
        print(f"{name}: agreement {result['agreement']:.1%}")
        for key, row in result["spiking"].items():
            print(
                f"  {key:45} {row['accuracy']:6.1%}  twin {result['twin'][key]['accuracy']:6.1%}  ({row['pictures']})"
            )
    print(f"flickr8k: agreement {found['agreement']:.1%}")
    for key, value in found["spiking"].items():
        print(f"  {key:45} {value:6.1%}  twin {found['twin'][key]:6.1%}")


if __name__ == "__main__":
    main()
