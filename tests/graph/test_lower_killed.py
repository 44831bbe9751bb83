"""`spikeclip lower` killed at any moment leaves whole graphs or none, and lowering again is as if nothing had been."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

import spikeclip
from spikeclip.errors import InputError
from spikeclip.graph.saved import load_graphs, save_graphs

MOMENTS = int(os.environ.get("SPIKECLIP_KILLS", "3"))
LOWER = """
import sys
import spikeclip.graph.lower, spikeclip.graph.saved, spikeclip.model
from spikeclip.cli import main
print("ready", flush=True)
main(["lower", sys.argv[1]])
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved model, big enough for a write to take a while."""
    torch.manual_seed(0)
    text = {"vocab_size": 20_000, "eos_id": 0, "width": 64, "depth": 1, "num_heads": 2}
    model = spikeclip.create_model("spikeclip-tiny", embed_dim=16, image={"widths": [8, 16]}, text=text)
    folder = tmp_path_factory.mktemp("model")
    model.eval().save_pretrained(folder)
    return model, folder


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def lower(folder):
    """Start lowering and return the process when all is imported."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOWER, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def test_killed_and_lowered_again_equals_undisturbed(model):
    model, folder = model
    started = lower(folder)
    start = time.perf_counter()
    assert started.wait() == 0, started.stderr.read()
    seconds = time.perf_counter() - start
    undisturbed = contents(folder)

    moments = random.Random(0)
    for _ in range(MOMENTS):
        process = lower(folder)
        time.sleep(moments.uniform(0, seconds))
        process.send_signal(signal.SIGKILL)
        process.wait()
        said = ""
        try:
            load_graphs(folder)
        except InputError as error:
            said = str(error)
        found = contents(folder)
        assert "holds no graphs" in said or {name: found[name] for name in undisturbed} == undisturbed
        save_graphs(model, folder)
        assert contents(folder) == undisturbed


@pytest.mark.parametrize("writes", range(6))
def test_stopped_before_every_write(model, monkeypatch, writes):
    """The moments between the files, which a random one seldom meets."""
    model, folder = model
    save_graphs(model, folder)
    undisturbed, replace, done = contents(folder), os.replace, []

    def stop(source, target):
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        if writes < 5:
            with pytest.raises(KeyboardInterrupt):
                save_graphs(model, folder)
            with pytest.raises(InputError, match="holds no graphs"):
                load_graphs(folder)
        else:
            save_graphs(model, folder)
            load_graphs(folder)
    save_graphs(model, folder)
    assert contents(folder) == undisturbed
