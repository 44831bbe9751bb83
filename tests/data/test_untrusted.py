"""Shards, tables and recordings of unknown origin: one clear line, inside their folder, memory in proportion."""

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_sources import class_label, noise, png, write_events, write_parquet, write_tar

from spikeclip.config import ImageFormat
from spikeclip.data import load_pictures
from spikeclip.data.readers.npz import load_arrays
from spikeclip.errors import InputError
from spikeclip.teacher import open_teacher

HUGE = 2_000_000_000


def samples(count, **more):
    """Files of `count` samples with a picture and a label."""
    files = {}
    for i in range(count):
        files |= {f"s{i:02d}.png": png(noise(i)), f"s{i:02d}.cls": i % 2}
    return files | more


def peak(code):
    """Run code in a process of its own; return its last line and its peak memory in MB."""
    # Not ru_maxrss, which begins with that of the process that started this one.
    end = "\nprint(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    done = subprocess.run([sys.executable, "-c", code + end], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *lines, memory = done.stdout.splitlines()
    return "\n".join(lines), int(memory) // 1024


LOAD = """
from spikeclip.config import ImageFormat
from spikeclip.data import load_pictures
from spikeclip.errors import InputError
try:
    print(len(load_pictures({folder!r}, "train", ImageFormat(8, {frames}), cache={cache!r})))
except InputError as error:
    print(error)
"""


needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")


def load_apart(tmp_path, name, frames=None):
    return peak(LOAD.format(folder=str(tmp_path / name), cache=str(tmp_path / "cache"), frames=frames))


@needs_proc
@pytest.mark.parametrize("kind", ["shard", "parquet", "npz"])
def test_a_label_decides_no_memory(tmp_path, kind):
    if kind == "shard":
        write_tar(tmp_path / "s/train/0.tar", {"1.png": png(noise(1)), "1.cls": HUGE})
    elif kind == "parquet":
        write_parquet(tmp_path / "s/train.parquet", [png(noise(1))], {"label": [HUGE]})
    else:
        write_events(tmp_path / "s/train.npz", [[(0, 1, 1, 0)]], [0], label=np.array([HUGE]))
    said, memory = load_apart(tmp_path, "s", 1 if kind == "npz" else None)
    assert "labels run from 2000000000 to 2000000000, and without class names they stay below 100,000" in said
    assert memory < 500


def bomb_of_zeros(path):
    """A column of 200 MB of zeros in a few KB."""
    rows = [{"bytes": bytes(1 << 20), "path": None}] * 200
    write_parquet(path, [], {"label": []})
    pq.write_table(
        pa.table({"image": rows, "label": [0] * 200}), path, compression="zstd", use_dictionary=False
    )


def bomb_of_rows(path):
    """A billion rows of one label in a few KB."""
    write_parquet(path, [], {"label": []})
    index = pa.array(np.zeros(40_000_000, np.int8))
    label = pa.DictionaryArray.from_arrays(index, pa.array([0])).cast(pa.int64())
    pq.write_table(
        pa.table({"image": pa.nulls(len(index), pa.binary()), "label": label}), path, compression="zstd"
    )


def bomb_of_captions(path):
    """One caption of 100 KB that 20,000 rows share through a dictionary."""
    blob = pa.array([{"bytes": png(noise(0)), "path": None}] * 20_000)
    index = pa.array(np.zeros(20_000, np.int32))
    text = pa.DictionaryArray.from_arrays(index, pa.array(["x" * 100_000]))
    write_parquet(path, [], {"label": []})
    pq.write_table(pa.table({"image": blob, "caption": text}), path)


def bomb_of_events(path):
    columns = {name: np.zeros(1, np.uint8) for name in ("y", "p", "dt_lo", "dt_hi", "label")}
    path.parent.mkdir()
    np.savez_compressed(path, x=np.zeros(2 * 10**8, np.uint8), offsets=np.array([0, 1]), **columns)


@needs_proc
@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("train.parquet", bomb_of_zeros, "'image' unpacks to"),
        ("train.parquet", bomb_of_rows, "40,000,000 rows in"),
        ("train.parquet", bomb_of_captions, "'caption' takes more than"),
        ("train.npz", bomb_of_events, "unpacks to 200,00"),
    ],
)
def test_what_unpacks_out_of_proportion_is_refused(tmp_path, name, make, message):
    make(tmp_path / "s" / name)
    assert (tmp_path / "s" / name).stat().st_size < 2_000_000
    said, memory = load_apart(tmp_path, "s", 1 if name.endswith("npz") else None)
    assert message in said
    assert memory < 500


def test_an_array_that_claims_more_than_it_holds_is_refused(tmp_path):
    header = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '|u1', 'fortran_order': False, 'shape': (8000000000,)}".ljust(117)
        + b"\n"
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header + b"1234")
    with pytest.raises(InputError, match=r"a\.npz: it cannot be read \(x\.npy does not hold \(8000000000,\)"):
        load_arrays(tmp_path / "a.npz", "it")
    with pytest.raises(InputError, match=r"a\.npz: the table of embeddings cannot be read"):
        open_teacher(tmp_path / "a.npz")


def test_arrays_arrive_as_numpy_wrote_them(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.standard_normal((3, 4)),
        "b": np.asfortranarray(rng.integers(0, 9, (2, 5, 3))),
        "c": np.array(["ä", "bc"]),
        "d": np.array(7.5, np.float16),
        "e": np.empty((0, 4), np.float32),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        loaded = load_arrays(tmp_path / "a.npz", "it")
        assert loaded.keys() == arrays.keys()
        for name, array in arrays.items():
            assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
            assert np.array_equal(loaded[name], array)
    assert load_arrays(tmp_path / "a.npz", "it", ["a", "z"]).keys() == {"a"}


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside.png", "a/../../outside.png"])
def test_a_table_names_no_picture_outside_of_its_folder(tmp_path, load, path):
    (tmp_path / "outside.png").write_bytes(png(noise(0)))
    write_parquet(tmp_path / "s/train.parquet", [None], {"label": [0]}, class_label("a", "b"), paths=[path])
    with pytest.raises(
        InputError, match=r"row 0 of 'train' names the picture .*, which is outside of the data"
    ):
        load(tmp_path / "s")


def test_pictures_by_path_inside_the_folder_and_by_its_owners_links(tmp_path, load):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/2.png").write_bytes(png(noise(2)))
    (tmp_path / "s/a").mkdir(parents=True)
    (tmp_path / "s/a/1.png").write_bytes(png(noise(1)))
    (tmp_path / "s/linked").symlink_to(tmp_path / "elsewhere")
    paths = ["a/1.png", "linked/2.png", str(tmp_path / "s/a/../a/1.png"), "a/absent.png"]
    write_parquet(
        tmp_path / "s/train.parquet", [None] * 4, {"label": [0] * 4}, class_label("a", "b"), paths=paths
    )
    pictures = load(tmp_path / "s")
    assert np.array_equal(pictures.images, np.stack([noise(i) for i in (1, 2, 1)]))
    assert list(pictures.skipped) == ["a/absent.png"]


def test_members_that_are_no_files_are_not_followed(tmp_path, load):
    (tmp_path / "secret.png").write_bytes(png(noise(9)))
    path = tmp_path / "s/train/0.tar"
    write_tar(path, samples(3))
    with tarfile.open(path, "a") as archive:
        for i, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(f"t{i}.png")
            member.type, member.linkname = kind, str(tmp_path / "secret.png")
            archive.addfile(member)
            label = tarfile.TarInfo(f"t{i}.cls")
            label.size = 1
            archive.addfile(label, io.BytesIO(b"1"))
    pictures = load(tmp_path / "s")
    assert len(pictures) == 3
    assert list(pictures.skipped) == ["t0", "t1", "t2", "t3"]


def test_names_of_members_lead_nowhere(tmp_path, load):
    files = {"/etc/1.png": png(noise(1)), "/etc/1.cls": 0, "../2.png": png(noise(2)), "../2.cls": 1}
    write_tar(tmp_path / "s/train/0.tar", files)
    before = sorted(tmp_path.rglob("*"))
    assert load(tmp_path / "s").ids == ["/etc/1", "../2"]
    new = {path for path in sorted(tmp_path.rglob("*")) if "cache" not in path.parts} - set(before)
    assert not new


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda whole, at: whole[:at], r"byte [\d,]+: empty header"),
        (lambda whole, at: whole[: at + 300], r"byte [\d,]+: truncated header"),
        (lambda whole, at: whole[: at + 700], r"byte [\d,]+: a member of [\d,]+ bytes does not fit"),
        (lambda whole, at: whole[:at] + b"x" * 512 + whole[at + 512 :], r"byte [\d,]+: .+"),
        (
            lambda whole, at: whole[:at] + bytes(512) + whole[at + 512 :],
            "its end marker is missing or damaged",
        ),
        (lambda whole, at: whole[:at] + bytes(1024) + whole[at + 1024 :], "something follows its end marker"),
        (lambda whole, at: whole[:at] + bytes(512), "its end marker is missing or damaged"),
    ],
)
def test_a_shard_that_is_cut_or_damaged_in_the_middle_is_refused(tmp_path, load, change, problem):
    path = tmp_path / "s/train/0.tar"
    write_tar(path, samples(32))
    assert len(load(tmp_path / "s")) == 32
    with tarfile.open(path) as archive:
        at = archive.getmembers()[20].offset
    path.write_bytes(change(path.read_bytes(), at))
    with pytest.raises(InputError, match=rf"0\.tar: not a whole tar archive \({problem}\): fetch it again"):
        load(tmp_path / "s")


def test_an_archive_behind_the_end_of_another_is_not_lost(tmp_path, load):
    for i in range(2):
        write_tar(tmp_path / f"{i}.tar", {f"{i}.png": png(noise(i)), f"{i}.cls": 1})
    (tmp_path / "s/train").mkdir(parents=True)
    (tmp_path / "s/train/0.tar").write_bytes(
        (tmp_path / "0.tar").read_bytes() + (tmp_path / "1.tar").read_bytes()
    )
    with pytest.raises(InputError, match="something follows its end marker"):
        load(tmp_path / "s")


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_long_and_foreign_names_in_every_format(tmp_path, load, format):
    name = "folder" * 15 + "/" + ("ü" if format != tarfile.USTAR_FORMAT else "u") * 40
    (tmp_path / "s/train").mkdir(parents=True)
    with tarfile.open(tmp_path / "s/train/0.tar", "w", format=format) as archive:
        for ending, data in ((".png", png(noise(1))), (".cls", b"1")):
            (tmp_path / "file").write_bytes(data)
            archive.add(tmp_path / "file", name + ending)
    pictures = load(tmp_path / "s")
    assert pictures.ids == [name]
    assert np.array_equal(pictures.images[0], noise(1))


def test_compressed_shards_are_refused(tmp_path, load):
    write_tar(tmp_path / "s/train/0.tar", samples(2))
    (tmp_path / "s/train/1.tar.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"shards are read uncompressed: unpack 1\.tar\.gz to \.tar"):
        load(tmp_path / "s")


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_missing_shard_is_an_error_by_its_number(tmp_path, load, kind):
    for i in (0, 2):
        path = tmp_path / f"s/train-{i:05d}-of-00003.{kind}"
        if kind == "tar":
            write_tar(path, samples(2))
        else:
            write_parquet(path, [png(noise(i))], {"label": [0]}, class_label("a", "b"))
    with pytest.raises(
        InputError, match=r"s holds 2 of 3 shards such as train-00000-of-00003.*, without the numbers 1:"
    ):
        load(tmp_path / "s")
    (tmp_path / f"s/train-00002-of-00003.{kind}").rename(tmp_path / f"s/train-00001-of-00002.{kind}")
    with pytest.raises(InputError, match="are not shards of one set: remove the older ones"):
        load(tmp_path / "s")
    (tmp_path / f"s/train-00000-of-00003.{kind}").rename(tmp_path / f"s/train-00000-of-00002.{kind}")
    assert len(load(tmp_path / "s")) == (4 if kind == "tar" else 2)


def test_a_gap_between_numbers_is_warned_of_every_time(tmp_path):
    for i in (0, 1, 4):
        write_tar(tmp_path / f"s/train-{i:06d}.tar", {f"{i}.png": png(noise(i)), f"{i}.cls": 1})
    for _ in range(2):
        with pytest.warns(
            UserWarning, match=r"no shards with the numbers 2, 3 between 0 and 4; the others are read"
        ):
            load_pictures(str(tmp_path / "s"), "train", ImageFormat(8), cache=tmp_path / "cache")


def test_two_files_of_one_sample_are_an_error(tmp_path, load):
    path = tmp_path / "s/train/0.tar"
    write_tar(path, samples(2))
    with tarfile.open(path, "a") as archive:
        (tmp_path / "again").write_bytes(png(noise(7)))
        archive.add(tmp_path / "again", "s01.jpg")
    with pytest.raises(InputError, match=r"0\.tar: sample 's01' has two files 's01\.png' and 's01\.jpg'"):
        load(tmp_path / "s")


DEEP = "[" * 10_000


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.cls": "9" * 30}, r"s: 1: expected the number of a class, got b'9{30}'"),
        ({"1.cls": "9" * 5000}, r"s: 1: expected the number of a class, got b'9{58}\.\.\.$"),
        ({"1.cls": "0.5"}, r"s: 1: expected the number of a class, got b'0\.5'"),
        ({"1.json": '{"label": 1.5}'}, r"s: 1: expected the number of a class, got 1\.5"),
        ({"1.json": '{"label": NaN}'}, r"s: 1: expected the number of a class, got nan"),
        ({"1.json": '{"label": [1]}'}, r"s: 1: expected the number of a class, got \[1\]"),
        ({"1.json": '{"label": true}'}, r"s: 1: expected the number of a class, got True"),
        ({"1.json": '{"label": null}'}, r"neither labels \(\.cls\) nor captions"),
        ({"1.json": f'{{"label": {"9" * 5000}}}'}, r"s: 1\.json: not valid JSON"),
        ({"1.json": DEEP}, r"s: 1\.json: its JSON is nested too deeply"),
        ({"1.json": b'{"label": "\xff"}'}, r"s: 1\.json: its text is not UTF-8"),
        ({"1.txt": b"caf\xe9"}, r"s: 1\.txt: its text is not UTF-8"),
        (
            {"1.txt": "x" * (1 << 20) + "x"},
            r"0\.tar: 1\.txt has 1,048,577 bytes, and labels and captions at most",
        ),
    ],
)
def test_labels_and_captions_that_are_none(tmp_path, load, files, message):
    write_tar(tmp_path / "s/train/0.tar", {"1.png": png(noise(1)), **files})
    with pytest.raises(InputError, match=message) as error:
        load(tmp_path / "s")
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1.5], r"train/1: expected the number of a class, got 1\.5"),
        ([0, None], r"1 of 2 rows have no label: train/1"),
        ([[0], [1]], r"train/0: expected the number of a class, got \[0\]"),
        ([-1, 0], r"1 of 2 rows have no label: train/0"),
        ([-2, 0], r"labels run from -2 to 0"),
        (["dog", "bird"], r"label 'bird' of 'train' is none of the 2 class names"),
    ],
)
def test_label_columns_that_do_not_fit(tmp_path, load, labels, message):
    write_parquet(tmp_path / "s/train.parquet", [png(noise(i)) for i in range(2)], {"label": labels})
    (tmp_path / "s/names.json").write_text('["dog", "cat"]')
    with pytest.raises(InputError, match=message):
        load(tmp_path / "s")


def test_whole_numbers_may_be_written_as_floats(tmp_path, load):
    write_parquet(tmp_path / "s/train.parquet", [png(noise(i)) for i in range(2)], {"label": [1.0, 0.0]})
    assert load(tmp_path / "s").labels.tolist() == [1, 0]


def test_files_of_one_split_that_differ_are_an_error(tmp_path, load):
    for i, names in enumerate((("a", "b"), ("b", "a"))):
        path = tmp_path / f"s/train-{i}.parquet"
        write_parquet(path, [png(noise(i))], {"label": [0]}, class_label(*names))
    with pytest.raises(
        InputError, match=r"train-1\.parquet and train-0\.parquet differ in columns or class names"
    ):
        load(tmp_path / "s")


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("names.json", DEEP, r"names\.json: its JSON is nested too deeply"),
        ("names.json", b'["caf\xe9"]', r"names\.json: its text is not UTF-8"),
        ("classnames.txt", b"caf\xe9\nb", r"classnames\.txt: its text is not UTF-8"),
        ("classnames.txt", "a\n\nb\n", r"classnames\.txt: line 2 is empty"),
    ],
)
def test_files_of_class_names_that_cannot_be_read(tmp_path, load, file, data, message):
    write_tar(tmp_path / "s/train/0.tar", samples(2))
    (tmp_path / "s" / file).write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(InputError, match=message):
        load(tmp_path / "s")


def test_class_names_as_editors_write_them(tmp_path, load):
    write_tar(tmp_path / "s/train/0.tar", samples(2))
    (tmp_path / "s/classnames.txt").write_bytes("\ufeffcafé\u2028au lait\r\ndog\r\n\n".encode())
    assert load(tmp_path / "s").classnames == ["café\u2028au lait", "dog"]


def test_odd_captions_arrive_as_texts_that_can_be_written(tmp_path, load):
    about = {
        "1.png": png(noise(1)),
        "1.json": json.dumps({"label": 1, "captions": ["a\ud800b", "", "n\0l", "x" * 10**5]}),
    }
    write_tar(tmp_path / "s/train/0.tar", about)
    (captions,) = load(tmp_path / "s").captions
    assert [caption[:10] for caption in captions] == ["a?b", "n\0l", "x" * 10]
    "".join(captions).encode()


def test_pictures_without_captions_are_counted_and_named(tmp_path):
    write_parquet(
        tmp_path / "s/train.parquet", [png(noise(i)) for i in range(3)], {"caption": ["a", None, " "]}
    )
    with pytest.warns(UserWarning, match=r"s train: 2 of 3 pictures have no caption: 1\.png, 2\.png$"):
        load_pictures(str(tmp_path / "s"), "train", ImageFormat(8), cache=tmp_path / "cache")


@pytest.mark.parametrize("name", ["train/0.tar", "train.parquet"])
def test_pipes_and_folders_are_no_files(tmp_path, load, name):
    path = tmp_path / "s" / name
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.raises(InputError, match=f"{name} is not a file"):
        load(tmp_path / "s")
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=f"{name} is not a file"):
        load(tmp_path / "s")
