"""Join a converted image tower, a readout and a text tower to a model that comes with the package.

    python weights/join.py NAME --tower DIR --readout FILE.npz --text DIR --about FILE.yaml

NAME's folder under src/spikeclip/pretrained/weights gets config.json, tokenizer.json, README.md and int8 graphs;
shipped.yaml gets their hashes and what FILE.yaml says of them.
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
from spikeclip.convert.saved import load_conversion
from spikeclip.files import file_hash
from spikeclip.graph.saved import lowered, write_graphs
from spikeclip.model import from_pretrained
from spikeclip.neurons import Neuron

PRETRAINED = Path(__file__).resolve().parents[1] / "src" / "spikeclip" / "pretrained"


def join(name: str, tower: Path, readout: Path, text: Path, taught: Taught) -> SpikeCLIP:
    """Return the model in PyTorch; its text tower and its neurons' range are those of the model in `text`."""
    words, image = from_pretrained(text), load_conversion(tower)
    stored = np.load(readout)
    neuron = replace(image.config.neuron, range=words.config.neuron.range)
    config = ModelConfig(name, len(stored["bias"]), neuron, image.config.image, words.config.text)
    model = SpikeCLIP(config, words.tokenizer, taught).eval()
    set_readout(image.tower, torch.from_numpy(stored["weight"]), torch.from_numpy(stored["bias"]))
    model.image.load_state_dict(image.tower.state_dict())
    for module in model.image.modules():
        if isinstance(module, Neuron) and module.range_C is not None:
            module.range_C.mul_(image.config.neuron.range / neuron.range)
    model.text.load_state_dict(words.text.state_dict())
    model.log_scale.data.fill_(math.log(100))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    for option in ("--tower", "--readout", "--text", "--about"):
        parser.add_argument(option, type=Path, required=True)
    given = parser.parse_args()
    about = yaml.safe_load(given.about.read_text())
    taught = Taught(**about.pop("taught"), scores=about["metrics"])
    model = join(given.name, given.tower, given.readout, given.text, taught)
    folder = PRETRAINED / "weights" / given.name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    graphs = lowered(model)._replace(
        weights=file_hash(folder / "model.safetensors"), fingerprint=model.fingerprint
    )
    (folder / "model.safetensors").unlink()  # the graphs hold the same weights in a quarter of its size
    write_graphs(graphs, folder, int8=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    registry = PRETRAINED / "shipped.yaml"
    known = yaml.safe_load(registry.read_text()) if registry.is_file() else {}
    hashes = {str(path.relative_to(folder)): file_hash(path) for path in files}
    known = {**(known or {}), given.name: {"files": hashes, **about}}
    registry.write_text("# Made by weights/join.py.\n" + yaml.safe_dump(known, sort_keys=False, width=120))
    print(f"{folder}: {sum(path.stat().st_size for path in files) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
