"""Join a converted image tower and a text tower to a model.

    python weights/join.py FOLDER --tower DIR --network NETWORK --text DIR --about FILE --table FILE.npz --data SOURCE

The readout into the tables' space is learned from training pictures on the tower's own features. FOLDER, named as the
model is to be, gets config.json, tokenizer.json, README.md and int8 graphs. FILE, a YAML file, says under `taught` what
the model was taught with.
"""

from __future__ import annotations

import argparse
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml

from spikeclip import SpikeCLIP
from spikeclip.config import ModelConfig, Taught
from spikeclip.convert.features import set_readout
from spikeclip.convert.run import Conversion
from spikeclip.convert.saved import load_conversion
from spikeclip.data.sources import load_pictures
from spikeclip.defaults import CACHE
from spikeclip.encode.vectors import unit
from spikeclip.engine import Engine
from spikeclip.files import file_hash
from spikeclip.graph.lower import lower
from spikeclip.graph.saved import lowered, write_graphs
from spikeclip.model import from_pretrained
from spikeclip.neurons import Neuron
from spikeclip.progress import tracked
from spikeclip.teacher.image import ImageTeacher
from spikeclip.teacher.readout import learn_readout, pooled_features
from spikeclip.teacher.ridge import Lesson, Readout, fit_readout

BATCH = 16


def learn(image: Conversion, teacher: ImageTeacher, sources: list[str], limit: int) -> Readout:
    """Return the readout of a tower's pooled features in the ordinary scale.

    First that of the ordinary network is learned; then the tower's features are drawn to what it makes of the ordinary
    ones. Features of the tower come from the engine, which is ten times faster.
    """
    parts = [load_pictures(source, "train", image.config.image.format, limit=limit) for source in sources]
    ordinary = learn_readout(teacher, parts, Path(CACHE)).readout
    width = image.tower.readout.linear.in_features
    set_readout(image.tower, torch.eye(width), torch.zeros(width))
    features, lessons = Engine(lower(image.tower, image.config.image)), []
    for part in parts:
        starts = tracked(range(0, len(part), BATCH), f"{part.name}: tower")
        x_NC = np.concatenate([features(np.asarray(part.images[i : i + BATCH])) for i in starts])
        own_NC = pooled_features(teacher.network, teacher.config, part, CACHE)
        lessons.append(Lesson(x_NC, unit(ordinary(own_NC))))
    return fit_readout(lessons, ordinary, np.zeros_like(ordinary.bias_D))


def join(name: str, image: Conversion, readout: Readout, text: Path, taught: Taught) -> SpikeCLIP:
    """Return the model in PyTorch; its text tower and its neurons' range are those of the model in `text`."""
    words = from_pretrained(text)
    neuron = replace(image.config.neuron, range=words.config.neuron.range)
    config = ModelConfig(name, len(readout.bias_D), neuron, image.config.image, words.config.text)
    model = SpikeCLIP(config, words.tokenizer, taught).eval()
    set_readout(image.tower, torch.from_numpy(readout.weight_DC), torch.from_numpy(readout.bias_D))
    model.image.load_state_dict(image.tower.state_dict())
    for module in model.image.modules():
        if isinstance(module, Neuron) and module.range_C is not None:
            module.range_C.mul_(image.config.neuron.range / neuron.range)
    model.text.load_state_dict(words.text.state_dict())
    model.log_scale.data.fill_(math.log(100))
    return model


def write(model: SpikeCLIP, folder: Path) -> None:
    """Write a model as those of the package are: int8 graphs in place of its weights, a quarter of their size."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    weights = folder / "model.safetensors"
    graphs = lowered(model)._replace(weights=file_hash(weights), fingerprint=model.fingerprint)
    weights.unlink()
    write_graphs(graphs, folder, int8=True)
    print(f"model: {folder}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    for option in ("--tower", "--text", "--about"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--network", required=True)
    parser.add_argument("--table", type=Path, action="append", required=True)
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--limit", type=int, default=4000)
    given = parser.parse_args()
    taught = Taught(**yaml.safe_load(given.about.read_text())["taught"])
    image = load_conversion(given.tower)
    readout = learn(image, ImageTeacher(given.network, given.table), given.data, given.limit)
    write(join(given.folder.name, image, readout, given.text, taught), given.folder)


if __name__ == "__main__":
    main()
