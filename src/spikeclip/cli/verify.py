"""`spikeclip verify`: does a model spike, and where does it not."""

from __future__ import annotations

from typing import Annotated

import typer

from spikeclip.cli.options import Cache
from spikeclip.defaults import CACHE

HELP = """Show what every synaptic operation of a model reads.

Binary spikes, integers up to a declared D, or real values: those of the stem and of the readout are declared
exceptions, any other is an error and the exit code is 1. I-LIF neurons are compared with their D binary
sub-steps on pictures. MODEL is a saved model, the folder of a run, or a name on the Hugging Face hub."""
EXAMPLES = """Examples:

\b
  spikeclip verify runs/cifar10
  spikeclip verify runs/cifar10 --data data/cifar10 --limit 64"""


def verify(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Saved model, run or hub name.", show_default=False)
    ],
    data: Annotated[
        str, typer.Option(metavar="SOURCE", help="Known data set, folder, or data set on the hub.")
    ] = "shapes",
    split: Annotated[str, typer.Option(help="Split of the pictures.")] = "test",
    limit: Annotated[int, typer.Option(min=1, help="Pictures (and class names) to run.")] = 16,
    cache: Cache = CACHE,
) -> None:
    """Verify a model."""
    from spikeclip.data.prompts import build_prompts
    from spikeclip.data.sources import load_pictures
    from spikeclip.data.tokenizer import Tokenizer
    from spikeclip.errors import InputError
    from spikeclip.graph.inputs import picture_batches, random_tokens
    from spikeclip.graph.ops import Neuron
    from spikeclip.graph.saved import open_graphs
    from spikeclip.graph.verify import verify
    from spikeclip.pretrained.resolve import resolve

    folder = resolve(model).folder
    graphs = open_graphs(folder)
    neurons = [op for graph in (graphs.image, graphs.text) for op in graph.ops if isinstance(op, Neuron)]
    if all(op.kind == "relu" for op in neurons):
        raise InputError(f"{model} is an ordinary (ReLU) network without spikes: there is nothing to verify")
    pictures = load_pictures(data, split, graphs.image.input.format, cache=cache, limit=limit)
    tokenizer = folder / "tokenizer.json"
    if tokenizer.is_file():
        renamed = graphs.taught.renames_of(pictures.classnames)
        names = [renamed.get(name, name) for name in pictures.classnames[:limit]]
        prompts = (
            [group[0] for group in build_prompts(names, graphs.taught.prompts)] if names else ["a photo"]
        )
        texts, tokens_NL = "texts", Tokenizer.load(tokenizer).encode(prompts, graphs.text.input.length)
    else:
        texts, tokens_NL = (
            "rows of random tokens, because it has no tokenizer",
            random_tokens(graphs.text, limit),
        )
    inputs = {"image": next(picture_batches(graphs.image, pictures.images, limit)), "text": tokens_NL}
    unsound = []
    for tower, graph in (("image", graphs.image), ("text", graphs.text)):
        found, substeps = verify(
            graph, inputs[tower], progress=f"comparing the {tower} tower with its sub-steps"
        )
        _print(tower, found, f"{len(inputs[tower])} {'pictures' if tower == 'image' else texts}")
        unsound += [f"{tower}.{s.op}" for s in found if not s.sound]
        if substeps is not None:
            _print_substeps(substeps)
            if not substeps.equal:
                unsound.append(f"{tower}: {substeps.different} activations differ from their sub-steps")
    if unsound:
        raise InputError(
            f"{len(unsound)} synaptic inputs are not the spikes they should be: {', '.join(unsound)}"
        )
    print("Every synaptic operation reads spikes, but for the exceptions named above.")


def _print(tower: str, found: list, on: str) -> None:
    from spikeclip.cli.tables import print_table

    rows = [
        (
            s.op,
            s.reads,
            {"binary": "binary", "integer": f"integer, D = {s.D}", "real": "real"}[s.kind],
            f"{s.seen[0]:.6g} to {s.seen[1]:.6g}",
            f"exception: {s.exception}" if s.exception else "" if s.sound else "NOT DECLARED",
        )
        for s in found
    ]
    print_table(f"{tower} tower, {on}", ("operation", "reads", "declared", "seen", ""), rows)


def _print_substeps(substeps) -> None:  # noqa: ANN001
    print(
        f"I-LIF against binary sub-steps: {substeps.neurons:,} activations, {substeps.different} differ, "
        f"{substeps.not_binary} sub-step spikes are not 0 or 1; products differ by {substeps.rounding:.1f} eps of "
        f"float32 at most, embeddings of the two networks on their own by {substeps.output:.1e}."
    )
