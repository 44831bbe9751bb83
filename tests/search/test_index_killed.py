"""Kills: of the process that indexes, at several moments, and of the processes that decode for it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from indexed_photos import draw, rows

from spikeclip.search import Index
from spikeclip.search.readers import Readers
from spikeclip.search.worker import Task

CODE = """
import sys
sys.modules["torch"] = None  # a device has none
import spikeclip.search.add as add, spikeclip.search.writer as writer
from spikeclip.open import open_encoder
from spikeclip.search import Index
writer.BATCH = 4
writer._ROWS = 4
encoder = open_encoder("spikeclip-lite0")
print(Index.create("db", encoder).add(encoder, ["photos"]).added)
"""
"""Small batches, written at once: as many moments to be killed in as with many pictures."""


def versions(folder) -> int:
    place = folder / "db" / "pictures.lance" / "_versions"
    return len(list(place.iterdir())) if place.is_dir() else 0


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(child) for child in found.stdout.split()]


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_kill_loses_and_doubles_nothing_and_takes_the_decoders_along(tmp_path, encoder):
    for i in range(24):
        draw(tmp_path / "photos" / f"{i}.png", i)
    (tmp_path / "photos" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    orphans = []
    for moment in (1, 4):  # versions of the table: the first is empty
        process = subprocess.Popen([sys.executable, "-c", CODE], cwd=tmp_path, stdout=subprocess.DEVNULL)
        while versions(tmp_path) < moment and process.poll() is None:
            time.sleep(0.002)
        orphans += children(process.pid)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    done = subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 24  # it went on from the last kill
    undisturbed = Index.create(tmp_path / "other", encoder)
    undisturbed.add(encoder, [tmp_path / "photos"])
    killed = Index.open(tmp_path / "db")
    assert rows(killed) == rows(undisturbed)
    assert killed.stats().unreadable == undisturbed.stats().unreadable
    assert killed.verify() == undisturbed.verify()
    end = time.monotonic() + 20
    while any(map(is_alive, orphans)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [pid for pid in orphans if is_alive(pid)]


def test_a_decoder_that_is_killed_costs_its_picture_and_is_named(tmp_path):
    files = [str(draw(tmp_path / f"{i}.png", i)) for i in range(4)]
    kills = str(draw(tmp_path / "kills.png", 9))
    with Readers(32, 2) as readers:
        code = f"import os, sys; sys.path[:] = {json.dumps(sys.path)}\n"
        code += "import spikeclip.search.worker as worker\nread = worker.read_picture\n"
        code += "def kill(task, size):\n    if 'kills' in task.path: os.kill(os.getpid(), 9)\n"
        code += "    return read(task, size)\nworker.read_picture = kill\nworker.main(32)"
        readers._command = [sys.executable, "-c", code]
        found = {
            reading.path: reading for reading in readers.read(map(Task, [*files[:2], kills, *files[2:]]))
        }
        pids = readers.pids
    assert all(found[file].pixels.shape == (32, 32, 3) for file in files)
    assert "signal 9, most likely for lack of memory" in found[kills].why
    assert not found[kills].lasting  # it is tried again
    assert not any(map(is_alive, pids))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_missing_permission_is_tried_again(index, encoder, photos):
    (photos / "0.png").rename(photos / "secret.png")
    (photos / "secret.png").chmod(0)
    assert index.add(encoder, [photos]).unreadable == {str(photos / "secret.png"): "permission denied"}
    (photos / "secret.png").chmod(0o644)
    assert not index.add(encoder, [photos]).unreadable
