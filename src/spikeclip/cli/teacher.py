"""`spikeclip teacher`: train a small CLIP, store a model's embeddings, learn an image network's readout."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from spikeclip.cli.options import Renames, Templates, renames, with_options
from spikeclip.cli.teacher_tables import (
    READOUT_EXAMPLES,
    READOUT_HELP,
    WORDS_EXAMPLES,
    WORDS_HELP,
    readout,
    words,
)
from spikeclip.defaults import CACHE, TEMPLATE

HELP = """Train a teacher, store what it says, compare with it.

A recipe names a teacher as teacher.path: a CLIP model, a sentence encoder, a saved network of spikeclip, .npz
tables of embeddings, or an ordinary image network (efficientnet-lite0) beside a table with embeddings of the
ImageNet classes."""
EXAMPLES = """Examples:

\b
  spikeclip teacher train shapes --out runs/teacher
  spikeclip teacher embed openai/clip-vit-base-patch32 --data uoft-cs/cifar10 --out runs/clip.npz
  spikeclip teacher compare runs/pretrain --data ../shared/data/caltech101"""

TRAIN_HELP = """Train a small CLIP to teach a spiking student.

DATA is captioned or labelled pictures: `shapes` (built in), a folder of parquet or of pictures, or a Hugging
Face data set. The teacher is saved in Hugging Face's CLIP format; a recipe names it as teacher.path.

--out appears when the training is done. Until then recipe.json, checkpoint.pt, metrics.jsonl and tensorboard/ are in
OUT.training beside it; then the last two move to OUT/log. Ctrl-C writes a checkpoint that --resume continues from."""
TRAIN_EXAMPLES = """Examples:

\b
  spikeclip teacher train shapes --out runs/teacher
  spikeclip teacher train shapes --out runs/teacher-small --width 128 --layers 2 --epochs 5
  spikeclip teacher train shapes --out runs/teacher --resume
  spikeclip evaluate runs/teacher --data shapes"""

EMBED_HELP = """Store a teacher's embeddings of pictures and texts, so that training needs the teacher no more.

The table holds an embedding of every picture of the training split, of its captions, of the prompts of the
class names and of the lines of --texts. A recipe names it as teacher.path, alone or in a list of tables.
Ctrl-C loses nothing: the same command goes on where it was."""
EMBED_EXAMPLES = """Examples:

\b
  spikeclip teacher embed runs/teacher --data shapes --image-size 32 --out runs/shapes.npz
  spikeclip teacher embed openai/clip-vit-base-patch32 --data uoft-cs/cifar10 --template "a {c}" \\
      --augmentations 10 --out runs/clip.npz
  spikeclip teacher embed sentence-transformers/all-MiniLM-L6-v2 --texts nouns.txt --out runs/nouns.npz
  spikeclip teacher embed runs/cifar10-relu --data ../shared/data/cifar10 --augmentations 4 --out runs/twin.npz
  spikeclip train recipes/cifar10.yaml teacher.path=runs/clip.npz"""

COMPARE_HELP = """Compare the text tower of a run with its teacher's.

First the cosine between them: of texts that training learned, and of those it held out. Then how many of the teacher's
embeddings of pictures are recognised by the student's class texts, and by the teacher's: a teacher that is a table
of embeddings may hold prototypes of the training classes, and pictures of a split of --data. No picture passes the
student, so what is lost here is lost by its text tower alone."""
COMPARE_EXAMPLES = """Examples:

\b
  spikeclip teacher compare runs/pretrain
  spikeclip teacher compare runs/pretrain --data ../shared/data/caltech101 --out texts.json
  spikeclip teacher compare runs/words --teacher nouns.npz --teacher pictures.npz --data ../shared/data/caltech101"""

app = typer.Typer(rich_markup_mode=None)


class TrainOptions(NamedTuple):
    data: Annotated[str, typer.Argument(metavar="DATA", help="Pictures to learn from.", show_default=False)]
    out: Annotated[Path, typer.Option(help="Folder of the teacher.", show_default=False)]
    split: Annotated[str, typer.Option(help="Split to learn from.")] = "train"
    val_fraction: Annotated[
        float,
        typer.Option(min=0.0, max=0.9, help="Share kept for validation where the data has no split for it."),
    ] = 0.1
    limit: Annotated[int | None, typer.Option(min=1, help="Use only this many pictures.")] = None
    image_size: Annotated[int, typer.Option(min=1, max=224, help="Side of the pictures, pixels.")] = 32
    width: Annotated[int | None, typer.Option(help="Channels of both transformers.")] = None
    layers: Annotated[int | None, typer.Option(help="Layers of both transformers.")] = None
    patch_size: Annotated[int | None, typer.Option(help="Side of a patch, pixels.")] = None
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None
    batch_size: Annotated[int | None, typer.Option(help="Pairs per step.")] = None
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None
    seed: Annotated[int | None, typer.Option(help="Seed of weights, split and order.")] = None
    vocab_size: Annotated[int | None, typer.Option(help="Entries of the tokenizer.")] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted training; with the same options.")
    ] = False
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace a teacher in --out; an interrupted training starts anew."),
    ] = False


@app.command("train", help=TRAIN_HELP, epilog=TRAIN_EXAMPLES)
@with_options(TrainOptions)
def train(options: TrainOptions) -> None:
    """Train a teacher."""
    from spikeclip.errors import InputError

    out = options.out
    if options.resume and options.overwrite:
        raise InputError("--resume continues a training and --overwrite starts anew: give one of them")
    if (out / "config.json").exists() and not (options.overwrite or options.resume):
        raise InputError(f"{out} already holds a model: --overwrite replaces it")
    from spikeclip.cli.tables import print_table
    from spikeclip.config import ImageFormat, TeacherTraining
    from spikeclip.config.ranges import check_ranges
    from spikeclip.data import Splits, load_training
    from spikeclip.train.teacher import train_teacher

    given = {field.name: getattr(options, field.name, None) for field in fields(TeacherTraining)}
    settings = TeacherTraining(**{name: value for name, value in given.items() if value is not None})
    check_ranges(settings)
    if not 0 <= options.val_fraction <= 0.9:  # typer lets NaN through
        raise InputError(f"--val-fraction must be a number between 0 and 0.9, got {options.val_fraction}")
    splits = Splits(options.val_fraction, options.seed or 0, train=options.split, set_by="--val-fraction")
    format = ImageFormat(options.image_size)
    pictures, validation = load_training(options.data, format, splits, limit=options.limit)
    result = train_teacher(
        pictures, validation, out, settings, resume=options.resume, overwrite=options.overwrite
    )
    rows = [(name, value) for name, value in result.items() if isinstance(value, (int, float, str))]
    print_table(f"teacher: {out}", ("", ""), rows, numbers=(1,))


class EmbedOptions(NamedTuple):
    teacher: Annotated[
        str, typer.Argument(metavar="TEACHER", help="Model folder or hub name.", show_default=False)
    ]
    out: Annotated[Path, typer.Option(help="The table, an .npz file.", show_default=False)]
    data: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE", help="Pictures; repeatable.", show_default=False)
    ] = None
    split: Annotated[
        list[str] | None, typer.Option(help="Split of every source; repeatable.", show_default="train")
    ] = None
    template: Templates = None
    rename: Renames = None
    texts: Annotated[Path | None, typer.Option(help="More texts, one a line.", show_default=False)] = None
    augmentations: Annotated[
        int, typer.Option(min=0, help="Average over this many crops and flips; 0: the picture as it is.")
    ] = 0
    flip: Annotated[bool, typer.Option(help="Whether they may be flipped.")] = True
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side of the pictures, pixels.", show_default="the teacher's")
    ] = None
    limit: Annotated[int | None, typer.Option(min=1, help="Use only this many pictures of each split.")] = (
        None
    )
    device: Annotated[str, typer.Option(help="Where the teacher runs: cpu, cuda.")] = "cpu"
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 64
    cache: Annotated[str, typer.Option(help="Folder of decoded pictures and of unfinished work.")] = CACHE
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the table.")] = False


@app.command("embed", help=EMBED_HELP, epilog=EMBED_EXAMPLES)
@with_options(EmbedOptions)
def embed(options: EmbedOptions) -> None:
    """Write a table."""
    from spikeclip.errors import InputError

    out = options.out
    if out.suffix != ".npz":
        raise InputError(f"--out names a table, an .npz file; got {out}")
    if out.exists() and not options.overwrite:
        raise InputError(f"{out} exists: --overwrite replaces it")
    from spikeclip.config import AugmentConfig, DataConfig, ImageFormat
    from spikeclip.data.mixture import load_sources
    from spikeclip.files import read_lines
    from spikeclip.teacher import open_teacher
    from spikeclip.teacher.embed import Views, embed_table

    renamed = renames(options.rename)
    lines = read_lines(options.texts) if options.texts else []
    teacher = open_teacher(options.teacher, device=options.device)
    parts = []
    if options.data:
        usual = teacher.image_format.image_size if teacher.image_format else 32
        wanted = DataConfig(source=options.data, classnames=renamed, cache=options.cache)
        size = ImageFormat(options.image_size or usual)
        splits = options.split or ["train"]
        parts = [part for name in splits for part in load_sources(wanted, name, size, options.limit)]
    views = None
    if options.augmentations:
        side = max((part.images.shape[1] for part in parts), default=0)
        change = AugmentConfig(crop=side // 16, flip="random" if options.flip else "none")
        views = Views(options.augmentations, change)
    counts = embed_table(
        teacher,
        parts,
        out,
        Path(options.cache).expanduser(),
        templates=options.template or [TEMPLATE],
        texts=lines,
        views=views,
        batch_size=options.batch_size,
    )
    print(f"{out}: {counts['images']} pictures and {counts['texts']} texts of {teacher.name}")


app.command("readout", help=READOUT_HELP, epilog=READOUT_EXAMPLES)(readout)
app.command("words", help=WORDS_HELP, epilog=WORDS_EXAMPLES)(words)


@app.command("compare", help=COMPARE_HELP, epilog=COMPARE_EXAMPLES)
def compare(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.", show_default=False)],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE", help="Pictures that the teacher embedded; repeatable.", show_default=False
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of every source.")] = "test",
    rename: Renames = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TABLE", help="Its texts and pictures; repeatable.", show_default="the recipe's teacher"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the record goes.")] = Path("texts.json"),
) -> None:
    """Compare text towers."""
    from spikeclip.errors import InputError

    if out.is_dir():
        raise InputError(f"{out} is a folder; --out names the file of the result")
    if not run.is_dir():
        raise InputError(f"no such folder: {run}; RUN is the folder of a finished run")
    from spikeclip.cli.tables import print_text_tower
    from spikeclip.records import check_replaced, write_record
    from spikeclip.studies.text_tower import compare_text_tower

    check_replaced(out, str(run), lambda record: record["run"])
    record = compare_text_tower(run, data or [], split, renames(rename), teacher)
    write_record(record, out)
    print_text_tower(record)
    print(f"result: {out}")
