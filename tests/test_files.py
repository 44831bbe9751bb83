"""Files are whole or not there, whatever happens while they are written."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from spikeclip.cli import explain
from spikeclip.data.tokenizer import Tokenizer
from spikeclip.errors import InputError
from spikeclip.files import lock_file, replacing
from spikeclip.graph.saved import save_graphs
from spikeclip.train.checkpoint import save_checkpoint

BIG = 2_000_000
SMALL_DISK = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


@pytest.fixture
def model(small):
    tokenizer = Tokenizer.train(["a red star"], 300)
    text = {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id}
    model = small("spikeclip-tiny", text=text).float()
    model.tokenizer = tokenizer
    return model


WRITERS = {
    "checkpoint": lambda path, size: save_checkpoint(path, {"weights": torch.zeros(size)}),
    "table": lambda path, size: _written(path, lambda file: np.savez(file, x=np.zeros(size, np.float32))),
    "bytes": lambda path, size: _written(path, lambda file: file.write(b"x" * size)),
}


def _written(path, write):
    with replacing(path) as file:
        write(file)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_one_line_and_keeps_the_last_good_file(kind, small_disk):
    path = small_disk / "file"
    WRITERS[kind](path, 10)
    good = path.read_bytes()
    with pytest.raises(
        InputError, match=r"^the disk is full: .*file could not be written, the last good one is kept"
    ):
        WRITERS[kind](path, BIG)
    assert [file.name for file in small_disk.iterdir()] == ["file"]
    assert path.read_bytes() == good


def test_a_model_that_finds_no_room_leaves_the_one_that_was_there(model, small_disk):
    folder = small_disk / "model"
    model.save_pretrained(folder)
    good = {file.name: file.read_bytes() for file in folder.iterdir()}
    with (small_disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    with pytest.raises((InputError, OSError)) as caught:
        model.save_pretrained(folder)
    assert explain(caught.value)[0].startswith("the disk is full: ")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == good


def test_a_limit_of_the_process_is_said_as_such(tmp_path):
    """In a process of its own: other threads of this one write files too, and the limit may end it."""
    limited = (
        "import resource, sys, torch\n"
        "from pathlib import Path\n"
        "from spikeclip.train.checkpoint import save_checkpoint\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "save_checkpoint(Path(sys.argv[1]), {'weights': torch.zeros(int(sys.argv[2]))})\n"
    )
    command = [sys.executable, "-c", limited, str(tmp_path / "checkpoint.pt"), str(BIG)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert re.search(r"InputError: file too large: .*checkpoint.pt could not be written", done.stderr), done
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_permissions_of_any_new_file(mask, expected, model, tmp_path):
    with umask(mask):
        model.save_pretrained(tmp_path / "model")
        save_graphs(model, tmp_path / "model")
        save_checkpoint(tmp_path / "model/checkpoint.pt", {})
    files = {file.name: mode(file) for file in (tmp_path / "model").rglob("*") if file.is_file()}
    assert {"model.safetensors", "image.safetensors", "checkpoint.pt", "config.json"} <= files.keys()
    assert set(files.values()) == {expected}


def test_a_link_is_not_written_through(tmp_path):
    thesis, link = tmp_path / "thesis.txt", tmp_path / "results.json"
    thesis.write_text("years of work")
    link.symlink_to(thesis)
    with pytest.raises(InputError, match=r"results.json is a symbolic link, to .*thesis.txt"):
        _written(link, lambda file: file.write(b"{}"))
    assert thesis.read_text() == "years of work"
    assert link.is_symlink()


def test_a_folder_that_leads_elsewhere_is_not_written_to(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model/graph").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="graph is a symbolic link"):
        save_graphs(model, tmp_path / "model")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_model_is_not_saved_through_links(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "other").write_text("other")
    (tmp_path / "model/config.json").unlink()
    (tmp_path / "model/config.json").symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match=r"config.json is a symbolic link"):
        model.save_pretrained(tmp_path / "model")
    assert (tmp_path / "other").read_text() == "other"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_told_that_permission_is_denied(model):
    read = """
import os, sys
from pathlib import Path
from spikeclip.errors import InputError
from spikeclip.graph.store import load_graph
from spikeclip.model import from_pretrained
os.setuid(65534)
for read, name in ((from_pretrained, ""), (load_graph, "graph/image")):
    try:
        read(Path(sys.argv[1]) / name)
    except InputError as error:
        print(error)
"""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        Path(folder).chmod(0o755)
        model.save_pretrained(folder)
        save_graphs(model, Path(folder))
        for file in Path(folder).rglob("*.safetensors"):
            file.chmod(0o600)
        done = subprocess.run(
            [sys.executable, "-c", read, folder], capture_output=True, text=True, check=True
        )
    assert [line.partition(":")[2][:18] for line in done.stdout.splitlines()] == [" permission denied"] * 2


def test_what_a_kill_left_is_removed_by_the_next_one(tmp_path):
    write = "import os, sys; from spikeclip.files import replacing\nfrom pathlib import Path\n"
    write += (
        "with replacing(Path(sys.argv[1])) as file:\n file.write(b'x'); file.flush(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", write, tmp_path / "file"], check=False)
    (left,) = tmp_path.iterdir()
    _written(tmp_path / "file", lambda file: file.write(b"1"))
    assert left.exists()  # another process may be writing it
    os.utime(left, (0, 0))
    _written(tmp_path / "file", lambda file: file.write(b"2"))
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"2"


def test_a_forked_process_holds_no_lock(tmp_path):
    first = lock_file(tmp_path / "lock", "works", "wait")
    with pytest.raises(InputError, match=rf"process {os.getpid()} on .* works in .*: wait"):
        lock_file(tmp_path / "lock", "works", "wait")
    (ready, is_ready), (end, ends) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.write(is_ready, b".")
        os.close(ends)
        os.read(end, 1)  # until the parent is done
        os._exit(0)
    try:
        os.read(ready, 1)
        first.close()
        lock_file(tmp_path / "lock", "works", "wait").close()
    finally:
        os.close(ends)
        os.waitpid(child, 0)
