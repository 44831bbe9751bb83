"""The model card: what a saved model is, was taught with and scores, in README.md beside its weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from spikeclip.config import ImageConfig, ModelConfig, NeuronConfig, Taught, TextConfig

CARD = "README.md"
_MARK = "<!-- Written by spikeclip at every save. Delete this line to keep a card of your own. -->"
_HUB = "has been pushed to the Hub using the [PytorchModelHubMixin]"
"""In the card that the hub's client writes; older versions saved it."""
_NO_LICENCE = (
    "Nobody has stated a licence of these weights. It depends on the data and the teacher above; the code is under the "
    "Apache licence 2.0."
)
_NEURONS = {
    "lif": "LIF",
    "plif": "PLIF, LIF with learned tau",
    "ilif": "I-LIF, integer spikes up to D",
    "relu": "ReLU: an ordinary network, the twin of a spiking one",
    "quant_relu": "quantised ReLU: the quantised twin of a spiking network",
}


def is_ours(folder: Path) -> bool:
    """Whether the card in a folder may be replaced: there is none, or nobody wrote it by hand."""
    file = folder / CARD
    if not file.is_file():
        return True
    text = file.read_text(encoding="utf-8", errors="replace")
    return _MARK in text or _HUB in text


def model_card(
    config: ModelConfig,
    taught: Taught,
    parameters: Mapping[str, int],
    megabytes: float,
    licence: str = _NO_LICENCE,
) -> str:
    """Return the card of a model as Markdown.

    parameters: numbers that were learned, of `image` and `text`; megabytes: 10^6 bytes of all weights. licence: of the
    weights, in Markdown.
    """
    millions = {tower: f"{count / 1e6:.1f} M parameters" for tower, count in parameters.items()}
    rows = {
        "image tower": f"{_image(config.image)}, {millions['image']}",
        "text tower": f"{_text(config.text)}, {millions['text']}",
        "neuron": _neuron(config.neuron),
        "embedding space": f"{config.embed_dim} dimensions"
        + (f", that of the teacher {_line(taught.teacher)}" if taught.teacher else ""),
    }
    parts = [
        "---\nlibrary_name: spikeclip\npipeline_tag: zero-shot-image-classification\n"
        "tags:\n- clip\n- spiking-neural-network\n---",
        _MARK,
        f"# {_line(config.name)}",
        "Two towers, for pictures and for texts, that share one embedding space as CLIP's do.",
        "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows.items()),
        "## Training\n\n" + _training(taught),
        "## Scores\n\n" + (_list(_score(k, v) for k, v in taught.scores.items()) or "Not measured."),
        "## Costs of a picture\n\n" + _costs(taught, megabytes),
        "## Use\n\n```python\nimport spikeclip\nfrom PIL import Image\n\n"
        'encoder = spikeclip.open_encoder("MODEL")  # this folder, or its name on the hub\n'
        'spikeclip.classify(encoder, [Image.open("picture.png")], ["a label", "another label"])\n```',
        "## Licence\n\n" + licence,
    ]
    return "\n\n".join(parts) + "\n"


def _training(taught: Taught) -> str:
    facts = {
        "data": ", ".join(map(_line, taught.sources)),
        "stages": "; ".join(map(_line, taught.stages)),
        "seed": "" if taught.seed is None else str(taught.seed),
        "prompts": ", ".join(f"`{_line(template)}`" for template in taught.templates),
        "class names replaced": ", ".join(f"{_line(a)} by {_line(b)}" for a, b in taught.renames.items()),
    }
    return _list(f"{name}: {value}" for name, value in facts.items() if value) or "Not known, or none."


def _costs(taught: Taught, megabytes: float) -> str:
    counted = (
        "The image tower, counted from its operations and spikes; time and joules (L4) are not measured."
    )
    more = (
        "`spikeclip energy MODEL --data SOURCE` gives the account, with the text tower; `--measure` adds L4."
    )
    lines = [f"weights: {megabytes:.1f} MB", *(f"{_line(k)}: {_line(v)}" for k, v in taught.costs.items())]
    return "\n\n".join([_list(lines), f"{counted if taught.costs else 'Energy is not counted.'} {more}"])


def _image(image: ImageConfig) -> str:
    blocks = f", {image.depth} transformer blocks" if image.depth else ""
    read = f"pictures of {image.image_size} x {image.image_size} pixels"
    if image.event_frames is not None:
        read = f"event recordings of {image.image_size} x {image.image_size}, as {image.event_frames} frames"
    return f"{image.architecture} of widths {', '.join(map(str, image.widths))}{blocks}, {read}"


def _text(text: TextConfig) -> str:
    blocks = f", {text.depth} blocks" if text.architecture == "transformer" else ""
    return f"{text.architecture} of width {text.width}{blocks}, up to {text.context_length} tokens"


def _neuron(neuron: NeuronConfig) -> str:
    levels = f", D={neuron.D}" if neuron.kind in ("ilif", "quant_relu") else ""
    return f"{_NEURONS[neuron.kind]}, T={neuron.T}{levels}"


def _score(name: str, value: float) -> str:
    share = "acc" in name or "recall" in name
    return f"{_line(name)}: " + (f"{100 * value:.2f} %" if share else f"{value:.4f}")


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _line(text: str) -> str:
    """A text from elsewhere, on one line and without what Markdown and HTML would read."""
    return " ".join(text.split()).translate(str.maketrans("|`<>[]", "/'()()"))
