"""What every request passes first: who may ask, how much at a time, and what every answer carries."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from contextlib import suppress
from typing import Any

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spikeclip.serve.metrics import Metrics
from spikeclip.serve.refusals import Refused, busy
from spikeclip.serve.settings import Settings
from spikeclip.serve.uploads import too_large

WORK = ("/v1/", "/knn-service")
"""Addresses that cost something: they count as waiting."""
SECRET = (*WORK, "/metrics")
"""Addresses that need the token; the page itself holds no data."""
DISCARDED, SECONDS = 2**24, 1.0
"""Bytes of a body that is too large which are still taken, and for how long."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """ASGI middleware; one for each app.

    Refused are a foreign Host (400), a missing token (401), a body that is too large (413) or too slow (408), and
    requests beyond the queue or with more bytes than are held at a time (503).
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self._working = self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, works = time.monotonic(), 500, scope["path"].startswith(WORK)
        most = _most(scope, self.settings)
        body = _Body(self, receive, most, start + self.settings.timeout)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-cache")  # a browser asks whether the page has changed
            await send(message)

        self._working += works
        self.metrics.waiting.set(self._working)
        try:
            await self._check(scope, works, most, body)
            await self.app(scope, body.receive, answer)
        except Refused as refused:
            await JSONResponse({"error": refused.detail}, refused.status_code, refused.headers)(
                scope, receive, answer
            )
        finally:
            self._working -= works
            self._held -= body.size
            self.metrics.waiting.set(self._working)
            self.metrics.answered(_route(scope), status, time.monotonic() - start)

    async def _check(self, scope: Scope, works: bool, most: int, body: _Body) -> None:
        headers, settings = Headers(scope=scope), self.settings
        host = re.sub(r":\d+$", "", headers.get("host", "")).strip("[]").lower()
        if settings.hosts and host not in settings.hosts:
            raise Refused(400, f"this server is not {host[:80]!r}: ask it by {settings.hosts[0]}")
        if settings.token is not None and scope["path"].startswith(SECRET):
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not secrets.compare_digest(given.encode(), settings.token.encode()):
                raise Refused(
                    401,
                    "this server wants its token: send the header Authorization: Bearer TOKEN",
                    WWW_Authenticate="Bearer",
                )
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            await body.discard()
            raise too_large(most)
        if works and self._working > settings.queue:
            raise busy(f"{settings.queue} requests are waiting already: ask again in a moment")

    def hold(self, size: int) -> None:
        """Count bytes of a body as held; raises `Refused` where there are too many of all requests together."""
        self._held += size
        if self._held > self.settings.held_bytes:
            raise busy("too many large requests at a time: ask again in a moment")


class _Body:
    """The body of one request as it comes in, within its bounds."""

    def __init__(self, guard: Guard, receive: Receive, most: int, until: float) -> None:
        self._guard, self._receive, self._most, self._until = guard, receive, most, until
        self.size, self._whole = 0, False

    async def receive(self) -> Message:
        if self._whole:  # nothing more but a disconnect, which may be long in coming
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._until - time.monotonic())):
                message: dict[str, Any] = dict(await self._receive())
        except TimeoutError:
            seconds = self._guard.settings.timeout
            raise Refused(
                408, f"the request was not here within {seconds:g} seconds", Connection="close"
            ) from None
        size = len(message.get("body", b""))
        self.size += size
        self._guard.hold(size)
        if self.size > self._most:
            if message.get("more_body", False):
                await self.discard()
            raise too_large(self._most)
        self._whole = not message.get("more_body", False)
        return message

    async def discard(self) -> None:
        """Take what still comes, and keep nothing: who is still sending would not see the answer."""
        left = DISCARDED
        with suppress(TimeoutError):
            async with asyncio.timeout(SECONDS):
                while left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body", False):  # all of it, or a disconnect
                        return


def _most(scope: Scope, settings: Settings) -> int:
    """Return how many bytes the body of a request may have."""
    is_json = Headers(scope=scope).get("content-type", "").startswith("application/json")
    holds_a_picture = not is_json or scope["path"] == "/knn-service"
    return settings.upload_bytes if holds_a_picture else min(settings.json_bytes, settings.upload_bytes)


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "other")
