"""`spikeclip serve` as a person runs it."""

import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from spikeclip import open_encoder
from spikeclip.defaults import INDEX
from spikeclip.search import Index


@pytest.mark.parametrize(
    ("options", "expected", "message"),
    [
        (("--prot", "1"), 2, "no such option: --prot; did you mean --port?"),
        (("--port", "70000"), 2, "invalid value for '--port'"),
        (("--db", "nowhere"), 1, "no index in"),
        (("--token", "pass word"), 1, "a token is letters, digits and signs of ASCII"),
        (
            ("--host", "192.0.2.1"),
            1,
            "192.0.2.1:8000 cannot be listened at: cannot assign requested address; choose",
        ),
    ],
)
def test_serve_says_what_is_wrong(options, expected, message, process):
    code, out, error = process("serve", *options)
    assert (code, out) == (expected, "")
    assert message in error
    assert len(error.splitlines()) == 1


def test_help_and_a_port_that_is_taken(process):
    code, out, error = process("serve", "--help")
    assert (code, error) == (0, "")
    assert "curl -F picture=@cat.jpg" in out
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, error = process("serve", "--port", str(port))
    assert code == 1
    assert f"127.0.0.1:{port} cannot be listened at: address already in use; choose another --port" in error


def test_it_searches_the_usual_index_without_pytorch_and_stops_when_told(folder, tmp_path):
    encoder = open_encoder("spikeclip-lite0", engine="int8")
    Index.create(tmp_path / INDEX.removeprefix("~/"), encoder).add(encoder, [folder / "pictures"])
    code = "import sys; sys.modules['torch'] = None; from spikeclip.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "serve", "--port", "0"]
    environment = {**os.environ, "HOME": str(tmp_path), "SPIKECLIP_TOKEN": "s3cret"}
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell may have had it ignored
    )  # fmt: skip
    try:
        said = running.stdout.readline()
        assert said.startswith("answering at http://127.0.0.1:")
        address = said.split()[2].rstrip("/")
        end = time.monotonic() + 100
        while httpx.get(f"{address}/readyz", timeout=60).status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        picture = {"picture": (folder / "pictures" / "one.png").read_bytes()}
        ask = {
            "url": f"{address}/v1/classify",
            "files": picture,
            "data": {"labels": "star,ring"},
            "timeout": 60,
        }
        assert httpx.post(**ask).status_code == 401
        answer = httpx.post(**ask, headers={"authorization": "Bearer s3cret"})
        assert {score["label"] for score in answer.json()["scores"]} == {"star", "ring"}
        assert answer.headers.get("server") is None
        running.send_signal(signal.SIGINT)
        _, error = running.communicate(timeout=60)
        assert (running.returncode, error) == (130, "Interrupted.\n")
    finally:
        running.kill()
        running.wait()
