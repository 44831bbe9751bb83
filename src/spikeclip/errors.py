"""The one exception for a user's mistake: its message says what came, what was expected and what to do."""

from __future__ import annotations

import difflib
import shlex
import unicodedata
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """Bad input from a user (file, recipe, label, shape). The command line prints it as one line."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM after which work can go on; its message says how."""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return an `InputError` for a name that does not exist, suggesting the nearest known one."""
    choices = sorted(known)
    near = nearest(name, choices)
    name = name if len(name) <= 80 else f"{name[:79]}…"
    hint = f"did you mean {near!r}?" if near else f"known: {', '.join(choices)}"
    return InputError(f"unknown {kind} {name!r}; {hint}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like another, None where none is like it."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


EXTRAS = {
    "numba": "runtime",
    "llvmlite": "runtime",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "lancedb": "search",
    "pyarrow": "search",
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "prometheus_client", "python_multipart"), "serve"),
}
"""The optional extra that brings a module; `train` brings all others."""
_ALONE = ("matplotlib",)
"""Modules that are installed by themselves: the extra that brings them brings PyTorch too."""


def missing_extra(module: str, extra: str | None = None) -> InputError:
    """Return an `InputError` that names the optional extra which brings `module`, or the module itself."""
    hint = f"pip install {module}" if module in _ALONE else install_hint(extra or EXTRAS.get(module, "train"))
    return InputError(f"this needs {module}, which is not installed: {hint}")


def missing_module(error: ModuleNotFoundError) -> InputError | ModuleNotFoundError:
    """Return what to raise for a module that cannot be imported: the extra that brings it, unless it is ours."""
    name = (error.name or "").partition(".")[0]
    return error if name in ("", "spikeclip") else missing_extra(name)


def install_hint(extra: str) -> str:
    """Return the command that installs an extra: from the folder this package was installed from, or the index.

    The folder's constraints.txt, where it has one, fixes the versions: PyTorch's for processors among them.
    """
    folder = _installed_from()
    if folder is None:
        return f"pip install 'spikeclip[{extra}]'"
    place = "." if folder == Path.cwd() else str(folder)
    file = "constraints.txt" if place == "." else shlex.quote(f"{place}/constraints.txt")
    fixed = f"-c {file} " if (folder / "constraints.txt").is_file() else ""
    return f"pip install {fixed}'{place}[{extra}]'"


def _installed_from() -> Path | None:
    """Return the folder of the source, where it is on this machine."""
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file():
        return checkout
    import json
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import unquote, urlsplit

    try:
        url = json.loads(distribution("spikeclip").read_text("direct_url.json") or "{}").get("url", "")
    except (PackageNotFoundError, ValueError):
        return None
    folder = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
    return folder if folder is not None and (folder / "pyproject.toml").is_file() else None


NO_MEMORY = "not enough memory for this: try fewer pictures at a time, smaller ones, or a smaller model"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out.

    PyTorch has no class of its own for it on the processor, and one of a graphics card elsewhere.
    """
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def printable(text: str) -> str:
    """Return a text that a terminal shows on one line: what cannot be printed, such as a line break, as its escape."""
    hidden = ("C", "Zl", "Zp")  # control characters, half of a character, line and paragraph separators
    return "".join(ascii(c)[1:-1] if unicodedata.category(c).startswith(hidden) else c for c in text)


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, cut where it is long, or its class name where it has none."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 200 else f"{line[:200]}..."
