"""A server in a process of its own, and clients that cost little: they share its processor."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from spikeclip.errors import InputError


class Request(NamedTuple):
    """kind: what it asks for. whole: the bytes that go over the wire."""

    kind: str
    whole: bytes


class Answer(NamedTuple):
    """seconds: from the first byte sent to the last one received."""

    kind: str
    status: int
    seconds: float
    body: bytes


class Server(NamedTuple):
    """A server in a process of its own."""

    host: str
    port: int
    process: subprocess.Popen

    def memory(self) -> dict[str, float]:
        """Its resident memory now and at most so far, MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = (re.search(rf"{name}:\s+(\d+)", status) for name in ("VmRSS", "VmHWM"))
        now, peak = (int(match[1]) / 1024 if match else float("nan") for match in found)
        return {"now_mib": now, "peak_mib": peak}

    def processor(self) -> float:
        """Processor seconds of all its threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(model: str, index: Path) -> Iterator[Server]:
    """Serve by the command on a free port, with the engine warm."""
    command = [
        sys.executable,
        "-m",
        "spikeclip",
        "serve",
        "--model",
        model,
        "--db",
        str(index),
        "--port",
        "0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://(.+):(\d+)/", process.stdout.readline())
        if found is None:
            raise InputError("the server did not start; its error is above")
        server = Server(found[1], int(found[2]), process)
        while httpx.get(f"http://{server.host}:{server.port}/readyz", timeout=60).status_code != 200:
            time.sleep(0.1)
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def form(address: str, files: Sequence[tuple[str, bytes]], fields: dict[str, str], kind: str) -> Request:
    """Return a request with a form, as bytes."""
    sent = httpx.Request(
        "POST",
        f"http://server{address}",
        files=[(name, ("x.jpg", blob)) for name, blob in files],
        data=fields,
    )
    return Request(kind, wire("POST", address, sent.headers["content-type"], sent.read()))


def wire(method: str, address: str, kind: str = "", body: bytes = b"") -> bytes:
    """Return a request as bytes; kind: the content type of its body."""
    head = f"{method} {address} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    return (head + (f"Content-Type: {kind}\r\n" if kind else "") + "\r\n").encode() + body


async def _client(server: Server, waiting: Iterator[Request], answers: list[Answer], until: float) -> None:
    """One client: a connection, one request at a time."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    for request in waiting:
        start = time.perf_counter()
        if start > until:
            break
        writer.write(request.whole)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        body = await reader.readexactly(length)
        answers.append(Answer(request.kind, int(head.split()[1]), time.perf_counter() - start, body))
        if "connection: close" in head:
            reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.close()


def load(
    server: Server, requests: Iterator[Request], clients: int, seconds: float = float("inf")
) -> tuple[list[Answer], float]:
    """Send requests from so many clients, until they or the seconds are over; return answers and the time it took."""
    answers: list[Answer] = []

    async def everyone() -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(_client(server, requests, answers, until) for _ in range(clients)))

    start = time.perf_counter()
    asyncio.run(everyone())
    return answers, time.perf_counter() - start
