"""Many runs of which each is trained once: a finished run is read, an interrupted one goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spikeclip.config import RunConfig
from spikeclip.errors import InputError, Interrupted, missing_extra
from spikeclip.records import read_record
from spikeclip.train.folder import CHECKPOINT, RESULT, locked
from spikeclip.train.recipe import changed_settings
from spikeclip.train.run import train_run


@contextmanager
def study(out: Path, kind: str, again: str = "continues") -> Iterator[None]:
    """Keep the folder of a study to this process; `Interrupted` says what the same command does."""
    for module in ("matplotlib", "numba"):  # for the figures at the end, and for the neurons after a teacher
        if find_spec(module) is None:
            raise missing_extra(module)
    try:
        with locked(out, kind):
            yield
    except Interrupted:
        raise Interrupted(f"stopped; the same command {again}") from None


def run_once(
    config: RunConfig, out: Path, *, title: str = "", quiet: bool = False, test: bool = True
) -> dict[str, Any]:
    """Train `config` in `out` unless that is done; return what `train_run` returns and the recipe.

    Raises `InputError` where `out` holds a run of another recipe, and `Interrupted` after Ctrl-C.
    """
    result = finished(config, out)
    if result is None:
        resume = (out / CHECKPOINT).is_file()
        result = train_run(config, out, resume=resume, title=title, quiet=quiet, test=test)
    return result


def finished(config: RunConfig, out: Path) -> dict[str, Any] | None:
    """Return the result of the run of `config` in `out`, None where it has not finished; raises as `run_once`."""
    file = out / RESULT
    if not file.is_file():
        return None
    try:
        result = read_record(file)
        if not {"recipe", "stages", "test"} <= result.keys():
            raise InputError(f"{file} is not the result of a run")
    except InputError as error:
        raise InputError(f"{error}: delete it, and the same command makes it anew") from error
    if changed := changed_settings(result["recipe"], config):
        raise InputError(
            f"{out} was trained with another recipe (different: {', '.join(changed)}): choose another --out"
        )
    return result
