"""`spikeclip serve` under load: mixed requests, throughput against the engine alone, and broken uploads.

python -m benchmarks.serve --out results/serve/load.json
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import httpx
import numpy as np

from benchmarks.broken import uploads
from benchmarks.command import finish, options, run
from spikeclip.cli.tables import print_table
from spikeclip.defaults import MODEL
from spikeclip.errors import InputError

LABELS = "dog,flower,car,pizza,military uniform"
TEXTS = (
    "a red car",
    "food on a table",
    "a dog in the snow",
    "musical instrument",
    "people at a beach",
    "a ship",
)
MIX = {"classify": 40, "embed image": 20, "search text": 15, "search picture": 10, "thumbnail": 10, "embed text": 4,
       "inspect": 1}  # fmt: skip
"""Shares of the kinds of request, percent."""


class Request(NamedTuple):
    """kind: of `MIX`. whole: the bytes that go over the wire."""

    kind: str
    whole: bytes


class Answer(NamedTuple):
    """seconds: from the first byte sent to the last one received."""

    kind: str
    status: int
    seconds: float
    body: bytes


def main() -> None:
    """Read the options, measure, print and write."""
    parser = options("A server under load.", [16])
    parser.set_defaults(data="../shared/data/imagenet_sample", repeats=5, seconds=3.0)
    parser.add_argument("--model", default=MODEL, help="shipped model")
    parser.add_argument("--requests", type=int, default=10_000, help="mixed requests")
    parser.add_argument("--clients", type=int, default=32, help="clients at a time")
    parser.add_argument("--broken", type=int, default=1000, help="broken uploads")
    arguments = parser.parse_args()
    from benchmarks.machine import Noise

    noise = Noise(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="spikeclip-bench-") as scratch:
        files = photographs(arguments.data, Path(scratch) / "pictures")
        index = Path(scratch) / "index"
        make_index(arguments.model, index, files[0].parent)
        noise.sample()
        with served(arguments.model, index) as server:
            mixed = measure_mixed(server, files, arguments.requests, arguments.clients)
            noise.sample()
            throughput = [
                measure_throughput(server, arguments, files, batch, noise) for batch in arguments.batch
            ]
            broken = measure_broken(server, arguments.broken)
    finish(
        arguments,
        {"model": arguments.model, "mixed": mixed, "throughput": throughput, "broken": broken},
        noise.summary(),
    )


def photographs(data: str, folder: Path) -> list[Path]:
    """Write the encoded pictures of a data set's test split as files; raises `InputError` without them."""
    import pyarrow.parquet as parquet

    source = Path(data) / "test.parquet"
    if not source.is_file():
        raise InputError(f"no pictures at {source}: --data names a folder with test.parquet")
    folder.mkdir()
    files = []
    for i, picture in enumerate(parquet.read_table(source, columns=["image"])["image"].to_pylist()):
        files.append(folder / f"{i:04}.jpg")
        files[-1].write_bytes(picture["bytes"])
    return files


def make_index(model: str, folder: Path, pictures: Path) -> None:
    """Make an index of a folder of pictures by the command."""
    command = [
        sys.executable,
        "-m",
        "spikeclip",
        "index",
        str(pictures),
        "--db",
        str(folder),
        "--model",
        model,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


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
    return Request(kind, _wire("POST", address, sent.headers["content-type"], sent.read()))


def _wire(method: str, address: str, kind: str = "", body: bytes = b"") -> bytes:
    head = f"{method} {address} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    return (head + (f"Content-Type: {kind}\r\n" if kind else "") + "\r\n").encode() + body


def mixed_requests(files: Sequence[Path], ids: Sequence[str], count: int) -> list[Request]:
    """Return requests of all kinds in the shares of `MIX`, the same ones at every run."""
    rng, made = random.Random(0), []
    for kind in rng.choices(list(MIX), list(MIX.values()), k=count):
        blob, text = rng.choice(files).read_bytes(), rng.choice(TEXTS)
        made.append(
            {
                "classify": lambda b=blob: form(
                    "/v1/classify", [("picture", b)], {"labels": LABELS}, "classify"
                ),
                "embed image": lambda b=blob: form("/v1/embed/image", [("pictures", b)], {}, "embed image"),
                "search picture": lambda b=blob: form("/v1/search", [("picture", b)], {}, "search picture"),
                "inspect": lambda b=blob: form("/v1/inspect", [("picture", b)], {}, "inspect"),
                "search text": lambda t=text: Request(
                    "search text", _wire("GET", f"/v1/search?text={t.replace(' ', '+')}")
                ),
                "thumbnail": lambda: Request("thumbnail", _wire("GET", f"/v1/pictures/{rng.choice(ids)}")),
                "embed text": lambda t=text: Request(
                    "embed text",
                    _wire("POST", "/v1/embed/text", "application/json", json.dumps({"texts": [t]}).encode()),
                ),
            }[kind]()
        )
    return made


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


def measure_mixed(server: Server, files: Sequence[Path], count: int, clients: int) -> dict[str, Any]:
    """Send mixed requests; return statuses, and latencies of all and of each kind, seconds."""
    base = f"http://{server.host}:{server.port}"
    found = httpx.get(f"{base}/v1/search", params={"text": "a dog", "limit": 100}, timeout=60).json()[
        "results"
    ]
    requests = mixed_requests(files, [picture["id"] for picture in found], count)
    answers, wall = load(server, iter(requests), clients)
    rows = {"all": answers} | {kind: [a for a in answers if a.kind == kind] for kind in MIX}
    latencies = {}
    for kind, group in rows.items():
        good = [a.seconds for a in group if a.status == 200]
        if good:
            p50, p99 = np.percentile(good, [50, 99]).tolist()
            latencies[kind] = {"answered": len(good), "p50": p50, "p99": p99}
    statuses = Counter(str(answer.status) for answer in answers)
    print_table(
        f"{len(answers):,} mixed requests, {clients} clients, {len(answers) / wall:.0f} a second; statuses "
        f"{dict(statuses)}",
        ("kind", "answered", "p50 ms", "p99 ms"),
        [
            (kind, f"{row['answered']:,}", f"{1e3 * row['p50']:.0f}", f"{1e3 * row['p99']:.0f}")
            for kind, row in latencies.items()
        ],
        numbers=(1, 2, 3),
    )
    return {
        "requests": len(answers), "clients": clients, "seconds": wall, "statuses": statuses, "latencies": latencies,
        "errors": sum(n for status, n in statuses.items() if status not in ("200", "503")),
        "memory": server.memory(),
    }  # fmt: skip


def measure_throughput(
    server: Server, arguments: Any, files: Sequence[Path], batch: int, noise: Any
) -> dict[str, Any]:
    """Pictures a second: the server, `batch` JPEGs a request, and in turns with it the engine alone in this process.

    The engine gets pixels ("engine"), or the same JPEGs, decoded in threads beside it ("decode and engine").
    """
    from spikeclip.data.decode import decode
    from spikeclip.open import open_encoder

    encoder = open_encoder(arguments.model, "int8")
    assert encoder.image_format is not None
    size, blobs = encoder.image_format.image_size, [file.read_bytes() for file in files]
    groups = [blobs[i : i + batch] for i in range(0, len(blobs) - batch + 1, batch)]
    pixels = [np.stack([decode(blob, size) for blob in group]) for group in groups]  # type: ignore[misc]
    requests = [
        form("/v1/embed/image", [("pictures", b) for b in group], {}, "embed image") for group in groups
    ]
    clients = max(2, 2 * arguments.clients // batch)

    def forever(items: Sequence[Any]) -> Iterator[Any]:
        while True:
            yield from items

    def by_server() -> float:
        answers, wall = load(server, forever(requests), clients, arguments.seconds)
        if bad := [answer for answer in answers if answer.status != 200]:
            raise InputError(
                f"the server answered {bad[0].status}: {bad[0].body[:200].decode(errors='replace')}"
            )
        return batch * len(answers) / wall

    def by_engine() -> float:
        start, done = time.perf_counter(), 0
        for group in forever(pixels):
            encoder.encode_image(group)
            done += batch
            if time.perf_counter() - start > arguments.seconds:
                break
        return done / (time.perf_counter() - start)

    def by_both() -> float:
        start, done = time.perf_counter(), 0
        with ThreadPoolExecutor(arguments.threads) as pool:
            waiting = [pool.map(lambda blob: decode(blob, size), group) for group in groups[:2]]
            for group in forever(groups):
                encoder.encode_image(np.stack(list(waiting.pop(0))))  # type: ignore[arg-type]
                done += batch
                if time.perf_counter() - start > arguments.seconds:
                    break
                waiting.append(pool.map(lambda blob: decode(blob, size), group))
        return done / (time.perf_counter() - start)

    contestants = {"server": by_server, "engine": by_engine, "decode and engine": by_both}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(arguments.repeats):
        for name, measure in contestants.items():
            rates[name].append(measure())
        noise.sample()
    ratios = {
        name: median(own / other for own, other in zip(rates["server"], rates[name], strict=True))
        for name in ("engine", "decode and engine")
    }
    print_table(
        f"pictures a second, {batch} a request, {clients} clients, median of {arguments.repeats} rounds",
        ("", "pictures/s", "server against it"),
        [
            (name, f"{median(values):.0f}", f"{ratios[name]:.2f}" if name in ratios else "")
            for name, values in rates.items()
        ],
        numbers=(1, 2),
    )
    return {"batch": batch, "clients": clients, "pictures_per_second": rates, "server_over": ratios}


def measure_broken(server: Server, count: int) -> dict[str, Any]:
    """Send broken uploads; return statuses, those that are 5xx, what was hung up on, and memory before and after."""
    before, statuses, failures, slowest = server.memory(), Counter(), [], 0.0
    with httpx.Client(base_url=f"http://{server.host}:{server.port}", timeout=120) as client:
        for upload in uploads(0, count):
            start = time.perf_counter()
            try:
                answer = client.request(upload.method, upload.address, **upload.options)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                statuses[type(error).__name__] += 1
                continue
            finally:
                slowest = max(slowest, time.perf_counter() - start)
            statuses[str(answer.status_code)] += 1
            if answer.status_code >= 500:
                failures.append(f"{upload.name} {upload.address}: {answer.text[:200]}")
        alive = client.get("/healthz").status_code == 200
    after = server.memory()
    print(f"{count:,} broken uploads: {dict(statuses)}; {len(failures)} of 5xx, slowest {slowest:.2f} s")
    print(
        f"memory {before['now_mib']:.0f} MiB before, {after['now_mib']:.0f} after, at most {after['peak_mib']:.0f}"
    )
    return {"uploads": count, "statuses": statuses, "failures": failures, "still_answers": alive, "slowest": slowest,
            "before": before, "after": after}  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    run(main)
