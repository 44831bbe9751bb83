"""Pictures and labels as people have them: odd names, other files between them, folders without classes."""

import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CLASSIFY = ("--model", "run", "--labels", "red circle,blue bar")


@pytest.fixture
def photos(folder):
    """Pictures with names that a terminal, JSON or rich could stumble over, between files that are none."""
    place = folder / "photos"
    shutil.rmtree(place, ignore_errors=True)
    (place / ".hidden").mkdir(parents=True)
    for name in (b"a\nb.png", b"[red]c.png", b"\x1b[31md.png", b"\xff.png", b".hidden/e.png", b"._f.png"):
        shutil.copy(folder / "pictures/one.png", os.fsencode(place) + b"/" + name)
    (place / "notes.txt").write_text("")
    (place / "g.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    os.mkfifo(place / "h.jpg")
    (place / "back").symlink_to("..")
    return "photos"


def test_odd_names_are_printed_on_one_line_and_other_files_are_named(photos, process):
    code, out, error = process("classify", photos, *CLASSIFY, "--top", "1", PYTHONIOENCODING="utf-8:strict")
    assert code == 0
    assert [line for line in out.splitlines() if not line.startswith(" ")] == [
        "photos/\\x1b[31md.png",
        "photos/[red]c.png",
        "photos/a\\nb.png",
        "photos/\\udcff.png",
    ]
    assert error.splitlines() == [
        "passed over 2: photos/back (a link to a folder that is read already), "
        "photos/notes.txt (not a picture by its ending)",
        "skipped photos/g.HEIC: HEIC, which Pillow alone does not read: save it as JPEG",
        "skipped photos/h.jpg: not a regular file",
        "4 pictures classified, 2 skipped",
    ]


def test_odd_names_are_keys_of_valid_json(photos, process):
    code, out, _ = process("classify", photos, *CLASSIFY, "--json", PYTHONIOENCODING="utf-8:strict")
    assert code == 0
    assert list(json.loads(out)) == [
        f"photos/{name}.png" for name in ("\x1b[31md", "[red]c", "a\nb", "\udcff")
    ]


def test_labels_that_the_output_cannot_write_are_escaped(process):
    arguments = ("classify", "pictures/one.png", "--model", "run", "--labels", "кот,dog")
    code, out, _ = process(*arguments, PYTHONIOENCODING="latin-1")
    assert code == 0
    assert sorted(line.split()[-1] for line in out.splitlines()[1:]) == ["\\u043a\\u043e\\u0442", "dog"]


def test_labels_may_be_longer_than_any_name_of_a_file(command):
    labels = ",".join(["~nobody's cat", *(f"label number {i}" for i in range(400))])
    code, out, _ = command(
        "classify", "pictures/one.png", "--model", "run", "--labels", labels, "--top", "401"
    )
    assert (code, len(out.splitlines())) == (0, 402)


def test_labels_of_a_file_are_its_lines(command, folder):
    (folder / "names.txt").write_text("\ufeffred circle\n\n blue bar \r\n", encoding="utf-8")
    given = command("classify", "pictures/one.png", *CLASSIFY)
    assert given[0] == 0
    assert command("classify", "pictures/one.png", "--model", "run", "--labels", "names.txt") == given


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("no.txt", "no such file of labels: no.txt"),
        ("cat,no.txt", "label 'no.txt': a file of labels stands alone"),
        ("latin.txt", "latin.txt: its text is not UTF-8; save it again with this encoding"),
        ("nothing.txt", "no labels to choose from: give at least two, such as 'cat,dog'"),
    ],
)
def test_files_of_labels_that_cannot_be_read(labels, message, command, folder):
    (folder / "latin.txt").write_bytes("café\ndog".encode("latin-1"))
    (folder / "nothing.txt").write_text("\n")
    code, out, error = command("classify", "pictures/one.png", "--model", "run", "--labels", labels)
    assert (code, out, error) == (1, "", f"Error: {message}\n")


def test_a_folder_without_pictures_is_called_so(command, folder):
    (folder / "empty").mkdir(exist_ok=True)
    code, _, error = command("classify", "empty", *CLASSIFY)
    assert (code, error) == (1, "Error: empty: the folder holds no pictures\n")
    code, out, error = command("classify", "em*", "pict*/one.png", *CLASSIFY)
    assert (code, out.splitlines()[0]) == (0, "pictures/one.png")
    assert error.splitlines()[0] == "skipped em*: the folder holds no pictures"


@pytest.mark.parametrize(
    "arguments", [["evaluate", "run", "--data", "alone", "--split", "train"], ["train", "r.yaml"]]
)
def test_one_class_is_neither_evaluated_nor_trained(arguments, command, folder):
    (folder / "alone/photos").mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "pictures/one.png", folder / "alone/photos/1.png")
    (folder / "alone/labels.csv").write_text("1.png,cat\n")
    (folder / "r.yaml").write_text(
        "data: {source: ./alone, test_split: null}\nstages: [{stage: contrastive, epochs: 1}]\n"
    )
    code, _, error = command(*arguments)
    assert code == 1
    assert error.endswith(
        "alone: one class is no classification; found 1 pictures in alone/photos beside labels.csv: put the pictures "
        "of each class in a folder of its own (CLASS/*.jpg), or make a train.parquet with the columns image and label\n"
    )


@pytest.mark.parametrize(
    "arguments", [["evaluate", "run", "--data", "./table", "--split", "train"], ["train", "t.yaml"]]
)
def test_nor_is_one_class_of_a_table(arguments, command, folder):
    image = {"bytes": (folder / "pictures/one.png").read_bytes(), "path": "1.png"}
    (folder / "table").mkdir(exist_ok=True)
    pq.write_table(pa.table({"image": [image] * 40, "label": ["cat"] * 40}), folder / "table/train.parquet")
    (folder / "t.yaml").write_text(
        "data: {source: ./table, test_split: null}\nstages: [{stage: contrastive, epochs: 1}]\n"
    )
    code, _, error = command(*arguments)
    assert code == 1
    assert error.endswith("every label is 'cat'; one class is no classification\n")
