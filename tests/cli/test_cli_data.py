import json

import numpy as np
import pytest
from PIL import Image

from spikeclip.data import known_datasets


@pytest.fixture
def home(tmp_path, monkeypatch):
    """$SPIKECLIP_DATA with CIFAR-10 as class folders: one picture a class, a damaged one, and a "val" split."""
    monkeypatch.setenv("SPIKECLIP_DATA", str(tmp_path))
    for split, label, name in [("train", 0, "airplane"), ("test", 0, "airplane"), ("test", 1, "automobile")]:
        folder = tmp_path / "cifar10" / split / name
        folder.mkdir(parents=True)
        Image.fromarray(np.full((32, 32, 3), 90 * label, np.uint8)).save(folder / "1.png")
    (tmp_path / "cifar10/test/airplane/2.png").write_bytes(b"damaged")
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (tmp_path / "cifar10/names.json").write_text(json.dumps(names))
    return tmp_path


def rows(out):
    return {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}


def test_list_says_sizes_and_where_each_is_read_from(home, command):
    code, out, error = command("data", "list")
    assert (code, error) == (0, "")
    found = rows(out)
    assert {"shapes", *known_datasets()} <= found.keys()
    assert found["flickr8k"] == [
        "Flickr8k",
        "captions",
        "-",
        "6,000",
        "1,000",
        "1,000",
        "hub:",
        "jxie/flickr8k",
    ]
    assert found["cifar10"][1:] == ["classification", "10", "50,000", "-", "10,000", str(home / "cifar10")]
    assert "- tinyimagenet: The official validation split" in out


def test_show_counts_names_and_draws(home, command, tmp_path):
    arguments = ("--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out.png"))
    code, out, error = command("data", "show", "cifar10", *arguments)
    assert code == 0
    assert "1 pictures cannot be read and are left out: test/airplane/2.png" in error
    assert f"CIFAR-10 (cifar10), from {home / 'cifar10'}" in out
    assert rows(out)["train"] == ["1", "50,000"]
    assert rows(out)["test"] == ["3", "10,000"]
    assert "classes: 10: airplane, automobile, bird" in out
    assert "templates: 18: a photo of a {c}.  " in out
    assert "read: 2 pictures of test, 1 unreadable\n  test/airplane/2.png: not a picture of a format" in out
    with Image.open(tmp_path / "out.png") as sheet:
        assert sheet.width > 100
    code, out, _ = command("data", "show", str(home / "cifar10"), *arguments, "--split", "train", "--classes")
    assert code == 0
    assert "     1  automobile\n" in out
    assert "templates" not in out


def test_show_of_the_built_in_set(command, tmp_path):
    code, out, _ = command("data", "show", "shapes", "--limit", "30", "--out", str(tmp_path / "out.png"))
    assert code == 0
    assert "shapes, built in" in out
    assert "and 44 more (--classes)" in out
    assert "captions: 90" in out


def test_show_of_event_recordings(command, tmp_path):
    dt, zeros = np.array([3, 9, 4], np.uint8), np.zeros(3, np.uint8)
    arrays = {"x": dt, "y": dt, "p": np.packbits(zeros), "dt_lo": dt, "dt_hi": zeros}
    np.savez(tmp_path / "test.npz", **arrays, offsets=np.array([0, 2, 3]), label=np.array([1, 0]))
    (tmp_path / "names.json").write_text('["zero", "one"]')
    arguments = ("--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out.png"))
    code, out, _ = command("data", "show", str(tmp_path), *arguments)
    assert code == 0
    assert rows(out)["test"] == ["2"]
    assert "classes: 2: zero, one" in out
    assert "read: 2 recordings of test, 0 unreadable" in out
    with Image.open(tmp_path / "out.png") as sheet:
        assert sheet.width > 100


def test_mistakes_are_one_line(home, command):
    assert command("data", "show", "cifar10", "--out", "sheet.pdf")[2].startswith(
        "Error: --out names the .png"
    )
    assert "has no split 'val'; found: test, train" in command("data", "show", "cifar10", "--split", "val")[2]
    assert command("data", "shwo")[::2] == (2, "Error: no such command 'shwo'. Did you mean 'show'?\n")


def test_help_without_a_command(command):
    code, out, _ = command("data")
    assert code == 0
    assert out == command("data", "--help")[1]
    assert "SPIKECLIP_DATA" in out


def test_cache(command, tmp_path):
    file = tmp_path / "pictures" / "a.npy"
    file.parent.mkdir()
    file.write_bytes(b"x" * 5000)
    code, out, _ = command("cache", "--cache", str(tmp_path))
    assert code == 0
    assert "decoded pictures" in out
    code, out, _ = command("cache", "pictures", "--clear", "--cache", str(tmp_path))
    assert (code, file.exists()) == (0, False)
    assert out.endswith(f"freed in {tmp_path}\n")
    code, _, error = command("cache", "picture", "--clear")
    assert (code, error) == (1, "Error: unknown kind of cache 'picture'; did you mean 'pictures'?\n")
