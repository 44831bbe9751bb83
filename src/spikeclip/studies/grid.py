"""Many runs of which each is trained once: a finished run is read, an interrupted one goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikeclip.config import RunConfig
from spikeclip.errors import InputError
from spikeclip.records import read_record
from spikeclip.train.recipe import changed_settings
from spikeclip.train.run import train_run


def run_once(
    config: RunConfig, out: Path, *, title: str = "", quiet: bool = False, test: bool = True
) -> dict[str, Any]:
    """Train `config` in `out` unless that is done; return what `train_run` returns and the recipe.

    Raises `InputError` where `out` holds a run of another recipe, and `Interrupted` after Ctrl-C.
    """
    result = finished(config, out)
    if result is None:
        resume = (out / "recipe.json").is_file()
        result = train_run(config, out, resume=resume, title=title, quiet=quiet, test=test)
    return result


def finished(config: RunConfig, out: Path) -> dict[str, Any] | None:
    """Return the result of the run of `config` in `out`, None where it has not finished; raises as `run_once`."""
    if not (out / "results.json").is_file():
        return None
    result = read_record(out / "results.json")
    if changed := changed_settings(result["recipe"], config):
        raise InputError(
            f"{out} was trained with another recipe (different: {', '.join(changed)}): choose another --out"
        )
    return result
