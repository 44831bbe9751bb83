import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from spikeclip.cli import main
from spikeclip.config import ImageFormat, model_config
from spikeclip.data import Tokenizer, load_pictures
from spikeclip.engine.threads import KERNELS, compile_kernels
from spikeclip.model import SpikeCLIP


@pytest.fixture(scope="session", autouse=True)
def compiled_engine():
    """The engine's kernels: a command that compiles them says so, once in an installation."""
    compile_kernels(KERNELS.values())


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A folder with a saved model (as a run leaves it), two pictures and one that is none."""
    root = tmp_path_factory.mktemp("cli")
    pictures = load_pictures("shapes", "test", ImageFormat(32), limit=60)
    tokenizer = Tokenizer.train([text for texts in pictures.captions for text in texts], 300)
    text = {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id}
    text |= {"width": 16, "depth": 1, "num_heads": 2}
    torch.manual_seed(0)
    config = model_config("spikeclip-tiny", embed_dim=16, image={"widths": [8, 16]}, text=text)
    SpikeCLIP(config, tokenizer).save_pretrained(root / "run" / "model")
    (root / "pictures" / "inside").mkdir(parents=True)
    Image.fromarray(pictures.images[0]).save(root / "pictures" / "one.png")
    Image.fromarray(pictures.images[1]).save(root / "pictures" / "inside" / "two.png")
    (root / "pictures" / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 and then nothing")
    return root


@pytest.fixture
def process(folder):
    """Run the command line as a process in `folder`; returns (exit code, stdout, stderr)."""

    def run(*arguments: str, code: str | None = None, **environment: str) -> tuple[int, str, str]:
        start = ["-c", code] if code else ["-m", "spikeclip"]
        done = subprocess.run(
            [sys.executable, *start, *arguments],
            cwd=folder,
            env={**os.environ, "SPIKECLIP_DEBUG": "", **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def command(folder, monkeypatch, capsys):
    """Run the command line inside this process, which has imported PyTorch already; returns the same."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SPIKECLIP_DEBUG", "")

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        return end.value.code, *capsys.readouterr()

    return run
