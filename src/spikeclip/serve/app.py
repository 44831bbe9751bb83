"""The app: an encoder and an index of pictures behind HTTP."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING

import anyio.to_thread
import numpy as np
from fastapi import FastAPI, Response
from pydantic import BaseModel
from starlette.staticfiles import StaticFiles

from spikeclip import __version__
from spikeclip.encode.encoder import Encoder, format_of
from spikeclip.errors import InputError
from spikeclip.serve import find, inside, recognise
from spikeclip.serve.batches import Batched
from spikeclip.serve.guard import Guard
from spikeclip.serve.metrics import Metrics
from spikeclip.serve.refusals import ANSWERS, answer_with_sentences
from spikeclip.serve.settings import Settings

if TYPE_CHECKING:
    from spikeclip.search import Index

DESCRIPTION = """Search pictures by words or by pictures, name what is on a picture, and look at the spikes of the
network that does it. Pictures are sent as files of a form (`curl -F picture=@cat.jpg`)."""


class Ready(BaseModel):
    """What this server has to offer."""

    ready: bool
    """Whether the engine has run once; before that the first answers take longer."""
    model: str
    fingerprint: str
    dim: int
    image_size: int
    spiking: bool
    """Whether /v1/inspect can look inside."""
    pictures: int | None
    """Pictures in the index; None without one."""


def create_app(encoder: Encoder, index: Index | None = None, settings: Settings | None = None) -> FastAPI:
    """Return the app that answers for an encoder, and searches an index of pictures where there is one.

    Raises `InputError` for an encoder of texts or of event recordings, and for an index of another encoder.
    """
    settings = settings or Settings()
    if format_of(encoder).event_frames:
        raise InputError(
            f"{encoder.name} reads event recordings, and a server gets pictures: choose another model"
        )
    if index is not None:
        index.check(encoder)
    counted = lru_cache(1)(_rows)
    metrics = Metrics()
    batched = Batched(encoder, settings, metrics.batch)
    warm = threading.Event()

    def warm_up() -> None:
        """Run once what compiles at its first call."""
        images_NHWC = np.zeros((settings.batch, *batched.image_format.shape), np.uint8)
        for count in {1, settings.batch}:
            encoder.encode_image(images_NHWC[:count])
        with suppress(InputError):  # a model without a tokenizer
            encoder.encode_text(["a picture"])
        inside.warm_up(batched, images_NHWC[:1])
        warm.set()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = settings.queue + 8
        batched.later(warm_up)
        yield
        await anyio.to_thread.run_sync(batched.close)

    app = FastAPI(
        title="spikeclip", version=__version__, description=DESCRIPTION, responses=ANSWERS, lifespan=lifespan,
        docs_url=None, redoc_url=None, # their scripts come from another host
    )  # fmt: skip
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a form that is none is answered 400
    answer_with_sentences(app)
    app.add_middleware(Guard, settings=settings, metrics=metrics)

    @app.get("/healthz", tags=["operate"])
    async def healthz() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operate"], responses={503: {"model": Ready}})
    def readyz(response: Response) -> Ready:
        """Say what this server has to offer, with status 503 until the engine has run once."""
        pictures = None
        if index is not None:
            with find.without_its_place(index):
                pictures = counted(index, round(time.monotonic() / 10))
        response.status_code = 200 if warm.is_set() else 503
        return Ready(
            ready=warm.is_set(),
            model=batched.name,
            fingerprint=batched.fingerprint,
            dim=batched.dim,
            image_size=batched.image_format.image_size,
            spiking=inside.engine_of(batched) is not None,
            pictures=pictures,
        )

    @app.get("/metrics", tags=["operate"])
    async def counters() -> Response:
        """Return counters in the format of Prometheus."""
        return Response(metrics.text(), media_type=metrics.media_type)

    app.include_router(recognise.routes(batched, settings))
    app.include_router(inside.routes(batched, settings))
    app.include_router(find.routes(batched, index, settings))
    app.mount("/", StaticFiles(packages=[("spikeclip.serve", "page")], html=True))
    return app


def _rows(index: Index, moment: int) -> int:
    """Pictures of an index, at a moment: counting reads files, and a page that is open asks often."""
    return index.stats().rows
