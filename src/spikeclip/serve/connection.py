"""A connection whose other side may do anything, or nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from spikeclip.serve.guard import HEADERS

CONNECTIONS = 500
"""Connections at a time; those beyond are hung up on."""


class Connection(H11Protocol):
    """uvicorn's, which ends where no request comes, or nothing of an answer is taken, for some seconds.

    uvicorn waits for both without end, and for files beyond what a process may have open. A body that does not come is
    the business of `Guard`.
    """

    def __init__(self, seconds: float, most: int, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._seconds, self._most = seconds, most
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > self._most:
            transport.abort()
        self._wait(True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._wait(False)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Stop waiting when the headers of a request are there."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.flow.write_paused:
            self._wait(False)

    def on_response_complete(self) -> None:
        """Wait for the answer to be taken, and for the next request."""
        self._wait(True)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait for the answer to be taken."""
        self._wait(True)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Wait for the rest of the answer to be taken."""
        self._wait(True)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as everything else is answered, and let go of a request that it is the body of."""
        if self.cycle is not None:
            self.cycle.disconnected = not self.cycle.response_complete
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = HEADERS | {"Content-Type": "application/json", "Connection": "close"}
            said = json.dumps({"error": "this is no HTTP that a server understands"}).encode()
            answer = h11.Response(status_code=400, headers=list(headers.items()), reason=b"Bad Request")
            for event in (answer, h11.Data(data=said), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _wait(self, begin: bool) -> None:
        if self._end is not None:
            self._end.cancel()
        self._end = self.loop.call_later(self._seconds, self.transport.abort) if begin else None
