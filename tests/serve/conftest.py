import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from spikeclip import open_encoder
from spikeclip.search import Index
from spikeclip.serve.app import create_app
from spikeclip.serve.listen import server_of
from spikeclip.serve.settings import Settings


@pytest.fixture(scope="session")
def encoder():
    return open_encoder("spikeclip-lite0", engine="int8")


@pytest.fixture(scope="session")
def collection(tmp_path_factory) -> list[Path]:
    """Thirty pictures of noise and plain colours in a folder with a name of its own."""
    folder = tmp_path_factory.mktemp("somewhere-private")
    rng, files = np.random.default_rng(0), []
    for i in range(30):
        pixels = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((240 + 10 * i, 200), Image.Resampling.BICUBIC)
        picture.save(folder / f"picture {i:02}.jpg", quality=90)
        files.append(folder / f"picture {i:02}.jpg")
    return files


@pytest.fixture(scope="session")
def index(encoder, collection, tmp_path_factory):
    index = Index.create(tmp_path_factory.mktemp("index"), encoder)
    index.add(encoder, [collection[0].parent])
    return index


@contextmanager
def served(encoder, index=None, settings=None, send_buffer=0):
    """Serve on a free port in a thread, as the command does; yields a client."""
    listener = socket.create_server(("127.0.0.1", 0))
    if send_buffer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    settings = settings or Settings()
    server = server_of(create_app(encoder, index, settings), settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60) as client:
            while client.get("/readyz").status_code != 200:
                time.sleep(0.02)
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def client(encoder, index):
    with served(encoder, index, Settings(upload_bytes=2_000_000)) as client:
        yield client
