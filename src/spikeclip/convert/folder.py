"""A conversion into a folder: what it goes on from lies beside it until it is done."""

from __future__ import annotations

import shutil
from pathlib import Path

from spikeclip.convert.report import Report
from spikeclip.convert.run import Conversion, convert
from spikeclip.convert.sample import Sample
from spikeclip.convert.saved import is_conversion, save_conversion
from spikeclip.convert.settings import ConvertSettings
from spikeclip.errors import InputError, Interrupted
from spikeclip.files import check_free
from spikeclip.towers.network import Network


def check_out(out: Path, overwrite: bool = False) -> None:
    """Raise `InputError` where `out` is not free, and with `overwrite` forget an earlier tower and checkpoint there."""
    if out.is_dir() and is_conversion(out) and not overwrite:
        raise InputError(f"{out} holds a converted tower: --overwrite replaces it")
    check_free(out, "converted tower", is_conversion(out))
    if overwrite and (unfinished := _checkpoint(out).parent).is_dir():
        shutil.rmtree(unfinished)


def convert_into(
    out: Path,
    network: Network,
    pictures: Sample,
    held_out: Sample,
    settings: ConvertSettings,
    device: str = "cpu",
    report: Report | None = None,
) -> Conversion:
    """Convert as `convert` does and save the tower in `out`; the same call goes on after a kill or Ctrl-C."""
    file = _checkpoint(out)
    try:
        done = convert(network, pictures, held_out, settings, device=device, checkpoint=file, report=report)
    except KeyboardInterrupt:
        kept = f"; the same command goes on from {file}" if file.is_file() else ""
        raise Interrupted(f"Interrupted{kept}.") from None
    save_conversion(done, out)
    if file.parent.is_dir():
        shutil.rmtree(file.parent)
    return done


def _checkpoint(out: Path) -> Path:
    return out.with_name(f"{out.name}.converting") / "checkpoint.pt"
