"""`spikeclip index` and `spikeclip search`, as processes where PyTorch cannot be imported."""

import json

import numpy as np
import pytest
from PIL import Image

WITHOUT_TORCH = (
    "import runpy, sys; sys.modules['torch'] = None; runpy.run_module('spikeclip', run_name='__main__')"
)
COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}


@pytest.fixture(scope="module")
def photos(folder):
    place = folder / "colours-of-photos"
    for name, colour in COLOURS.items():
        (place / name).mkdir(parents=True)
        Image.new("RGB", (90, 60), colour).save(place / name / f"{name}.jpg")
    (place / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 and then nothing")
    return place


@pytest.fixture
def spikeclip(process):
    return lambda *arguments: process(*arguments, code=WITHOUT_TORCH)


def test_pictures_are_indexed_and_found(spikeclip, command, photos, folder):
    code, out, err = spikeclip("index", "colours-of-photos", "--db", "colours")
    assert code == 0, err
    assert "3 added, 0 unchanged, 0 moved, 0 changed, 0 removed, 1 unreadable" in out
    assert f"unreadable {photos / 'damaged.jpg'}: " in err
    assert "Traceback" not in err

    code, out, err = spikeclip(
        "search", "--like", "colours-of-photos/red/red.jpg", "-n", "2", "--json", "--db", "colours"
    )
    assert code == 0, err
    first, second = json.loads(out)
    assert first["path"] == str(photos / "red" / "red.jpg")
    assert first["score"] == pytest.approx(1, abs=1e-3)
    assert (first["width"], first["height"], len(first["id"])) == (90, 60, 64)
    assert second["score"] < first["score"]

    where = ("--where", "path LIKE '%blue%'", "--sheet", "sheet.png")
    code, out, err = command("search", "a red square", "--not", "grass", "--db", "colours", *where)
    assert code == 0, err
    assert out.split()[1:] == [str(photos / "blue" / "blue.jpg")]
    assert np.asarray(Image.open(folder / "sheet.png")).std() > 10

    assert command("index", "--db", "colours", "--verify")[:2] == (0, "3 rows agree with their files\n")
    (photos / "green" / "green.jpg").unlink()
    code, out, err = command("index", "--db", "colours", "--verify")
    assert (code, out) == (1, f"gone {photos / 'green' / 'green.jpg'}\n")
    assert "1 of 3 rows do not agree" in err
    assert "2 unchanged, 0 moved, 0 changed, 1 removed" in command("index", "--db", "colours", "--prune")[1]
    assert "colours: 2 pictures" in command("index", "--db", "colours", "--compact")[1]
    assert command("index", "--db", "colours", "--approximate")[1].endswith(", approximate searches\n")
    assert command("index", "--db", "colours", "--compact")[1].endswith(", approximate searches\n")
    assert "approximate" not in command("index", "--db", "colours", "--no-approximate")[1]
    assert command("index", "--db", "colours", "--export", "out")[1] == "2 embeddings: out\n"
    taken = command("index", "--db", "other", "--from-embeddings", "out")[1]
    assert "2 rows from out" in taken
    out = command("index", "colours-of-photos/red", "--remove", "--db", "colours")[1]
    assert out == f"1 removed\n`spikeclip index` adds what is still there again, as it is in {photos}\n"
    assert len(json.loads(command("search", "red", "--json", "--db", "colours")[1])) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("search", "cat", "--db", "absent"), "`spikeclip index FOLDER --db"),
        (("search", "--db", "made"), "nothing to look for"),
        (("search", "cat", "--db", "made", "--where", "pth = 1"), "the condition 'pth = 1' cannot be used"),
        (("search", "cat", "--db", "made", "--sheet", "found.jpg"), "--sheet names a .png file"),
        (("search", "cat", "--db", "made", "--model", "run"), "--rebuild"),
        (("index", "--db", "absent"), "name a folder of pictures"),
        (("index", "nowhere", "--db", "made"), "no such folder"),
        (("index", "--db", "made", "--remove"), "name at least one"),
        (("index", "--db", "made", "--verify", "--prune"), "--verify and --prune are two things"),
        (("index", "pictures", "--db", "made", "--compact"), "--compact is for the whole index"),
        (("index", "--db", "made", "--export", "pictures"), "pictures is not empty: name a new folder"),
        (("index", "pictures", "--db", "made", "--model", "run"), "--rebuild"),
        (("index", "--db", "absent", "--approximate"), "`spikeclip index FOLDER --db"),
        (("index", "pictures", "--db", "pictures"), "holds other things"),
    ],
)
def test_mistakes_are_one_line(command, made, arguments, said):
    code, out, err = command(*arguments)
    assert code == 1
    assert said in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert not out


@pytest.fixture(scope="module")
def made(folder):
    from spikeclip import open_encoder
    from spikeclip.search import Index

    encoder = open_encoder("spikeclip-lite0")
    index = Index.create(folder / "made", encoder)
    index.add(encoder, [folder / "pictures" / "one.png"])


def test_a_missing_package_is_named_by_its_extra(process):
    code = WITHOUT_TORCH.replace("'torch'", "'lancedb'")
    for arguments in (("index", "pictures"), ("search", "cat")):
        status, _, err = process(*arguments, "--db", "none", code=code)
        assert status == 1
        assert "this needs lancedb, which is not installed" in err
        assert "[search]'" in err
