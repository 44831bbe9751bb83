"""Put a model into the package: its files, and what the registry and its card say of it.

    python weights/ship.py FOLDER --about FILE --measured FILE.json --data SOURCE

FOLDER is what join.py wrote, and is named as the model. Scores are those that measure.py found; what a picture costs is
counted on pictures of SOURCE. src/spikeclip/pretrained gets the files, and shipped.yaml their hashes and what the YAML
file says of licence, sources and training.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from spikeclip.config import Taught, read_saved, saved_values
from spikeclip.data.sources import load_pictures
from spikeclip.energy.costs import PICTURES, picture_costs
from spikeclip.files import file_hash
from spikeclip.graph.saved import SavedGraphs, load_graphs, write_graphs
from spikeclip.open import from_pretrained
from spikeclip.pretrained.card import CARD, model_card

PRETRAINED = Path(__file__).resolve().parents[1] / "src" / "spikeclip" / "pretrained"


def scores(measured: dict[str, Any]) -> dict[str, float]:
    """Return the zero-shot accuracies of the spiking network by the model's own texts, as fractions."""
    return {
        f"zero-shot accuracy, {result['pictures'].rpartition(',')[0]}, {row['pictures']} pictures, "
        + key.removeprefix("own texts, "): row["accuracy"]
        for result in measured["sets"].values()
        for key, row in result["spiking"].items()
        if key.startswith("own texts")
    }


def write(graphs: SavedGraphs, source: Path, folder: Path, about: dict[str, Any]) -> None:
    """Write a model's files into `folder`; raises `InputError` as `from_pretrained` does."""
    config = read_saved(source).config
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(source / "tokenizer.json", folder)
    (folder / "config.json").write_text(json.dumps(saved_values(config, graphs.taught), indent=2) + "\n")
    write_graphs(graphs, folder, int8=True)
    model = from_pretrained(folder)
    parameters = {
        tower: sum(p.numel() for p in getattr(model, tower).parameters()) for tower in ("image", "text")
    }
    licence = "\n".join([about["licence"], "", *(f"- {line}" for line in about["sources"])])
    card = model_card(config, graphs.taught, parameters, size(folder) / 1e6, licence)
    (folder / CARD).write_text(card)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def register(name: str, folder: Path, about: dict[str, Any]) -> None:
    """Write the hashes of a model's files, and what is said of it, into the registry."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {str(path.relative_to(folder)): file_hash(path) for path in files}
    registry = PRETRAINED / "shipped.yaml"
    known = (yaml.safe_load(registry.read_text()) if registry.is_file() else None) or {}
    known[name] = {"files": hashes, **about}
    registry.write_text("# Made by weights/ship.py.\n" + yaml.safe_dump(known, sort_keys=False, width=120))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    for option in ("--about", "--measured"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--data", required=True)
    given = parser.parse_args()
    about = yaml.safe_load(given.about.read_text())
    about["metrics"] = scores(json.loads(given.measured.read_text()))
    graphs = load_graphs(given.folder)
    pictures = load_pictures(given.data, "train", graphs.image.input.format, limit=PICTURES)
    costs = picture_costs(graphs.image, pictures.images, f"{pictures.name} {pictures.split}")
    taught = Taught(**about.pop("taught"), scores=about["metrics"], costs=costs)
    name = given.folder.name
    folder = PRETRAINED / "weights" / name
    write(graphs._replace(taught=taught), given.folder, folder, about)
    register(name, folder, about)
    print(f"{folder}: {size(folder) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
