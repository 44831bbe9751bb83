"""What the three commands have in common: options, and the end of a run."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import environment, noise_sentence
from spikeclip.cli.tables import print_table
from spikeclip.errors import InputError
from spikeclip.records import write_record


def options(description: str, batch: list[int]) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark; `batch` is the default."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=batch, help="pictures of one call")
    parser.add_argument("--repeats", type=int, default=7, help="rounds that are timed")
    parser.add_argument("--seconds", type=float, default=0.5, help="least length of a turn")
    parser.add_argument("--threads", type=int, default=2, help="threads of every contestant")
    parser.add_argument("--data", default="../shared/data/cifar10", help="labelled pictures")
    parser.add_argument("--out", type=Path, help="file for the JSON record")
    parser.add_argument("--only", help="only contestants with this in their name")
    return parser


def finish(arguments: argparse.Namespace, record: dict[str, Any], noise: dict[str, Any]) -> None:
    """Say how noisy the machine was, and write the record with its provenance."""
    print(noise_sentence(noise))
    write(arguments, record, noise)
    if arguments.out:
        print(f"written to {arguments.out}")


def write(arguments: argparse.Namespace, record: dict[str, Any], noise: dict[str, Any]) -> None:
    """Write the record with its provenance, where it was asked for."""
    if arguments.out:
        command = {key: value for key, value in vars(arguments).items() if not callable(value)}
        provenance = {**environment(arguments.threads), "command": command, "noise": noise}
        write_record({**record, "provenance": provenance}, arguments.out)


def run(main: Callable[[], None]) -> None:
    """Call `main`; a user's mistake is one line and status 2."""
    start = time.monotonic()
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
    print(f"{time.monotonic() - start:.0f} s")


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """Return a number for a table, "-" for none."""
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def show(title: str, columns: list[str], table: list[list[str]], rows: list[dict[str, Any]]) -> None:
    """Print a table whose first column is text and the others numbers; say below it who of `rows` could not run."""
    print_table(title, columns, table, numbers=range(1, len(columns)))
    for row in rows:
        if row["status"] != "ready":
            print(f"{row['status']}: {row['name']} ({row['why']})")
