"""What an installed copy of the package holds besides its modules."""

import json
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

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
    with zipfile.ZipFile(wheel_of(folder / "installed")) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def wheel_of(installed: Path) -> Path:
    (wheel,) = installed.parent.glob("*.whl")
    return wheel


def needed(dist: Distribution, extra: str = "") -> set[Path]:
    """The files and folders, as they are installed here, that a distribution needs to run with an extra."""
    found = set()
    for requirement in map(Requirement, dist.requires or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            other = distribution(requirement.name)
            first = {file.parts[0] for file in other.files or []} - {"..", "__pycache__"}
            found |= {Path(str(other.locate_file(part))) for part in first} | needed(other)
    return found


@pytest.fixture(scope="module")
def environment(installed, tmp_path_factory) -> Path:
    """A virtual environment with the wheel and what its extra `runtime` needs, no more; nothing is downloaded."""
    pytest.importorskip("pip", reason="pip, which installs the wheel, is not installed")
    folder = tmp_path_factory.mktemp("empty") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (ours,) = distributions(name="spikeclip", path=[str(installed)])
    for part in needed(ours, "runtime"):
        (site / part.name).symlink_to(part)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", wheel_of(installed)], check=True)
    return folder


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


def test_the_weights_in_a_wheel_take_at_most_12_mb(installed):
    with zipfile.ZipFile(wheel_of(installed)) as archive:
        sizes = [
            info.file_size
            for info in archive.infolist()
            if info.filename.startswith("spikeclip/pretrained/weights")
        ]
    assert 1e6 < sum(sizes) <= 12e6


def test_a_wheel_in_an_empty_environment_names_pictures_as_cameras_and_printers_store_them(
    environment, tmp_path
):
    """12 megapixels, turned by EXIF, CMYK, 16 bits: the same photograph, the same answer, without PyTorch."""
    matplotlib = pytest.importorskip(
        "matplotlib", reason="matplotlib, which has the photograph, is not installed"
    )
    file = Path(matplotlib.__file__).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    picture, pictures = Image.open(file).convert("RGB"), tmp_path / "pictures"
    pictures.mkdir()
    picture.resize((3024, 4032)).save(pictures / "large.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it by 90 degrees
    picture.transpose(Image.Transpose.ROTATE_90).save(pictures / "turned.jpg", exif=exif)
    picture.convert("CMYK").save(pictures / "cmyk.jpg")
    grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(pictures / "deep.png")

    def run_there(*command: str | Path) -> str:
        where = {"PATH": "", "HOME": str(tmp_path)}
        done = subprocess.run(command, cwd=tmp_path, env=where, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    about = "import importlib.util as u, json, spikeclip, sys\n"
    about += "print(json.dumps([u.find_spec('torch') is None, spikeclip.__file__, sys.path]))"
    torchless, where, path = json.loads(run_there(environment / "bin" / "python", "-c", about))
    assert torchless
    assert where.startswith(str(environment))
    assert not [entry for entry in path if entry.startswith(str(ROOT))]
    labels = "military uniform,dog,flower,car,pizza"
    command = environment / "bin" / "spikeclip"
    answers = json.loads(run_there(command, "classify", "pictures", "--labels", labels, "--json"))
    found = {Path(name).name: rows[0]["label"] for name, rows in answers.items()}
    assert found == dict.fromkeys(["large.jpg", "turned.jpg", "cmyk.jpg", "deep.png"], "military uniform")
