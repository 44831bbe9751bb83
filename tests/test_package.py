"""What an installed copy of the package holds besides its modules."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The package as its wheel has it, built from a copy of the checkout."""
    pytest.importorskip("setuptools", "77", reason="building a wheel needs setuptools 77 or newer")
    folder = tmp_path_factory.mktemp("wheel")
    build = (
        "import os, shutil, sys; from setuptools import build_meta; source, out = sys.argv[1:];"
        "names = ('pyproject.toml', 'README.md', 'LICENSE', 'recipes', 'src');"
        "skip = shutil.ignore_patterns('__pycache__', '*.egg-info');"
        "[(shutil.copytree if os.path.isdir(f'{source}/{n}') else shutil.copy)(f'{source}/{n}', n,"
        " **({'symlinks': True, 'ignore': skip} if os.path.isdir(f'{source}/{n}') else {})) for n in names];"
        "build_meta.build_wheel(out)"
    )
    (folder / "copy").mkdir()
    subprocess.run(
        [sys.executable, "-c", build, str(ROOT), str(folder)],
        cwd=folder / "copy",
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def run(installed: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "spikeclip", *arguments],
        cwd=installed.parent,
        env={"PYTHONPATH": str(installed), "PATH": "", "HOME": str(installed.parent)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_wheel_holds_every_data_file_of_the_package(installed):
    source = ROOT / "src" / "spikeclip"
    data = [
        file.relative_to(source)
        for pattern in ("**/*.yaml", "**/*.json", "recipes/*.yaml", "py.typed")
        for file in source.glob(pattern)
    ]
    assert Path("recipes/cifar10.yaml") in data
    assert [file for file in data if not (installed / "spikeclip" / file).is_file()] == []


def test_recipes_of_an_installed_package_are_found_by_name(installed):
    code, out, error = run(installed, "train", "--list")
    assert (code, error) == (0, "")
    listed = dict(line.split("  ", 1) for line in out.splitlines())
    assert listed.keys() == {file.stem for file in (ROOT / "recipes").glob("*.yaml")}
    assert listed["cifar10"].strip().startswith("CIFAR-10 with spikeclip-tiny")
    code, _, error = run(installed, "train", "cifar10", "stages.1.epochs=0")
    assert (code, error.splitlines()[-1]) == (
        1,
        "Error: stages.1.epochs must be a whole number between 1 and 100,000, got 0",
    )
