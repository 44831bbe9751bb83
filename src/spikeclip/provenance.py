"""What a result depends on besides the numbers: code, libraries, machine, weights."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import spikeclip
from spikeclip.records import read_record

_LIBRARIES = ("torch", "numpy", "transformers", "accelerate", "tokenizers", "pillow")


def environment() -> dict[str, Any]:
    """Return date (UTC), git revision, library versions and machine, as plain values for JSON."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_revision(),
        "versions": {"spikeclip": spikeclip.__version__, "python": platform.python_version(), **_versions()},
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """Return processor, cores and what they can multiply; amx and avx512_bf16 are None where unknown.

    threads are those of PyTorch, or else of the engine; gpu is PyTorch's. None in a process that has not imported them.
    """
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        cpuinfo = ""
    torch, numba = sys.modules.get("torch"), sys.modules.get("numba")
    pool = torch or numba
    fields = dict(line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    flags = fields.get("flags", "").split()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": fields.get("model name") or platform.processor() or None,
        "cores": os.cpu_count(),
        "threads": pool.get_num_threads() if pool else None,
        "amx": "amx_tile" in flags if flags else None,
        "avx512_bf16": "avx512_bf16" in flags if flags else None,
        "gpu": torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None,
    }


def git_revision() -> str | None:
    """Return the commit of the checkout that spikeclip runs from, "-dirty" where files differ, or None.

    An installed package has none, even when its environment lies inside someone's repository.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if dirty else "")
    except (OSError, subprocess.SubprocessError):
        return None


def training_runs(model: str | Path | None) -> list[dict[str, Any]] | None:
    """Return what the run that left a saved model was made of, and those it started from, latest first.

    Each has `sources`, `split`, `stages` and `withheld` classes. None where a recipe is missing: then
    it is not known what the model has seen.
    """
    runs: list[dict[str, Any]] = []
    while model is not None:
        recipe = find_recipe(Path(model).expanduser())
        if recipe is None:
            return None
        values = read_record(recipe)
        sources = values["data"]["source"]
        runs.append(
            {
                "sources": [sources] if isinstance(sources, str) else sources,
                "split": values["data"]["train_split"],
                "stages": [stage["stage"] for stage in values["stages"]],
                "withheld": values["data"].get("withhold", []),
            }
        )
        model = values["model"].get("pretrained")
    return runs or None


def find_recipe(model: Path) -> Path | None:
    """Return the recipe of the run that left a saved model: in its folder or, as a run has it, in the one above."""
    files = (folder / "recipe.json" for folder in (model, model.parent))
    return next((file for file in files if file.is_file()), None)


def protocol(runs: Sequence[Mapping[str, Any]] | None, dataset: str) -> str | None:
    """Return "zero-shot transfer" for a model that never trained on a data set, "fine-tuned", or "aligned on it".

    None where its training is not known. Sources are compared by the last part of their names.
    """
    if runs is None:
        return None
    trained = _runs_on(runs, dataset)
    if not trained:
        return "zero-shot transfer"
    finetuned = any("finetune" in run["stages"] for run in trained)
    withheld = len(withheld_classes(runs, dataset))
    return ("fine-tuned" if finetuned else "aligned on it") + (
        f" (classes withheld: {withheld})" if withheld else ""
    )


def withheld_classes(runs: Sequence[Mapping[str, Any]] | None, dataset: str) -> list[str]:
    """Return the classes of a data set that every run on it withheld; none where no run is known."""
    trained = _runs_on(runs or (), dataset)
    if not trained:
        return []
    return [name for name in trained[0]["withheld"] if all(name in run["withheld"] for run in trained)]


def _runs_on(runs: Sequence[Mapping[str, Any]], dataset: str) -> list[Mapping[str, Any]]:
    return [run for run in runs if Path(dataset).name in (Path(source).name for source in run["sources"])]


def _versions() -> dict[str, str]:
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
