"""From an app to a process that answers, until it is told to stop."""

from __future__ import annotations

import socket
import sys
from functools import partial
from math import ceil

import uvicorn
from fastapi import FastAPI

from spikeclip.errors import InputError
from spikeclip.serve.connection import CONNECTIONS, Connection
from spikeclip.serve.settings import Settings

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Addresses that this machine alone can ask."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raises `InputError` for an address that is taken, or not of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0].lower()
        raise InputError(
            f"{host}:{port} cannot be listened at: {reason}; choose another --port or --host"
        ) from None


def run(app: FastAPI, listener: socket.socket, settings: Settings) -> None:
    """Answer requests until Ctrl-C or SIGTERM, then those that have come in, for at most `Settings.timeout`."""
    host, port = listener.getsockname()[:2]
    if host not in LOCAL and settings.token is None:
        print(
            f"Warning: whoever reaches {host} can use this server; --token lets in those who know it",
            file=sys.stderr,
        )
    name = f"[{host}]" if ":" in host else host
    print(f"answering at http://{name}:{port}/ (Ctrl-C stops)", flush=True)
    server_of(app, settings).run(sockets=[listener])


def server_of(app: FastAPI, settings: Settings) -> uvicorn.Server:
    """Return what answers by an app within the bounds that the app itself cannot keep."""
    most = min(CONNECTIONS, files_that_may_be_open() // 2)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, lifespan="on", ws="none",
        http=partial(Connection, settings.timeout, most),  # type: ignore[arg-type]
        timeout_graceful_shutdown=ceil(settings.timeout),
    )  # fmt: skip
    return uvicorn.Server(config)


def files_that_may_be_open() -> int:
    """Return how many files this process may have open, connections among them."""
    try:
        import resource
    except ImportError:  # Windows
        return 2 * CONNECTIONS
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
