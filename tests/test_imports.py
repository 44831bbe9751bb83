"""Who may import whom: arrows point down, without circles, and the rooms of a device import without PyTorch."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import spikeclip

SOURCE = Path(spikeclip.__file__).parent
ORDER = (
    {"cli", "__main__"},
    {"serve"},
    {"search", "studies"},
    {"train", "evaluate"},
    {"energy", "export", "convert"},
    {"open"},
    {"engine"},
    {"encode", "teacher"},
    {"model", "graph"},
    {"towers", "pretrained"},
    {"neurons", "losses"},
    {"data", "config"},
    {
        *("records", "provenance", "cache", "files", "hub"),
        *("compiled", "figures", "progress", "defaults", "errors"),
        "__init__",
    },
)
"""Rooms from the top to the bottom; a room imports from its own level and those below."""
WITHOUT_TORCH = (
    "cli",
    "evaluate",
    "energy",
    "serve",
    "open",
    "search",
    "engine",
    "encode",
    "graph",
    "pretrained",
    "config",
    "records",
)
"""Rooms that a device uses, but for the files that are about PyTorch."""
NEEDS_TORCH = {
    "spikeclip.graph.lower",
    "spikeclip.graph.rebuild",
    "spikeclip.encode.student",
    *(f"spikeclip.evaluate.{name}" for name in ("probe", "clip_benchmark")),
}


def module_of(file: Path) -> str:
    parts = ("spikeclip", *file.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_of(file): file for file in SOURCE.rglob("*.py")}


def imports(file: Path) -> set[str]:
    """Modules of ours that a file imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules() else node.module for name in whole}
    return found & modules().keys()


def level(module: str) -> int:
    room = [*module.split("."), "__init__"][1]
    return next(i for i, rooms in enumerate(ORDER) if room in rooms)


def test_every_room_has_a_level():
    rooms = set().union(*ORDER)
    assert {[*name.split("."), "__init__"][1] for name in modules()} <= rooms


def test_no_arrow_points_up():
    up = [
        f"{name} -> {other}"
        for name, file in modules().items()
        for other in imports(file)
        if level(other) < level(name)
    ]
    assert not up


def test_there_are_no_circles():
    arrows = {name: imports(file) for name, file in modules().items()}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_a_room_imports_where_pytorch_cannot_be(room):
    names = [name for name in modules() if name.split(".")[1:2] == [room] and name not in NEEDS_TORCH]
    assert names
    code = "import sys; sys.modules['torch'] = None\n" + "\n".join(f"import {name}" for name in names)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "module",
    [
        "spikeclip",
        "spikeclip.cli",
        "spikeclip.config",
        "spikeclip.errors",
        "spikeclip.data.tokenizer",
        "spikeclip.data.sources",
        "spikeclip.energy.account",
        "spikeclip.energy.report",
        "spikeclip.graph.verify",
    ],
)
def test_pytorch_is_imported_only_when_needed(module):
    code = f"import sys, {module}; print(*{{'torch', 'transformers'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_public_name_is_there():
    import spikeclip

    for name in spikeclip.__all__:
        assert getattr(spikeclip, name) is not None
        assert name in dir(spikeclip)
    with pytest.raises(AttributeError, match="no attribute 'encode_everything'"):
        spikeclip.encode_everything  # noqa: B018
