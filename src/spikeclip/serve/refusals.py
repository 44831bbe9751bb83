"""What a request that cannot be answered gets: a status and one sentence, {"error": ...}."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from spikeclip.errors import InputError, printable

LOG = logging.getLogger("spikeclip.serve")
SENTENCES = {
    404: "there is nothing at this address; GET /openapi.json lists what there is",
    405: "this address takes another method; GET /openapi.json lists them",
}


class Error(BaseModel):
    """Every answer that is no success."""

    error: str
    """One sentence: what came, what was expected, what to do."""


ANSWERS: dict[int | str, dict[str, type[BaseModel]]] = {
    status: {"model": Error} for status in (400, 401, 413, 422, 503)
}
"""Of every route, for OpenAPI."""


class Refused(HTTPException):
    """A request that is not answered: a status and a sentence. It passes through the parsers of bodies unchanged."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(status, sentence, {name.replace("_", "-"): value for name, value in headers.items()})


def busy(sentence: str) -> Refused:
    """Return what a request gets that may succeed a little later."""
    return Refused(503, sentence, Retry_After="1")


def answer_with_sentences(app: FastAPI) -> None:
    """Let an app answer every error by a sentence: `InputError` 400, a body that does not fit 422, a bug 500."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        sentence = (
            error.detail if isinstance(error, Refused) else SENTENCES.get(error.status_code, error.detail)
        )
        return _answer(error.status_code, sentence, error.headers)

    @app.exception_handler(InputError)
    async def mistaken(request: Request, error: InputError) -> JSONResponse:
        return _answer(400, str(error))

    @app.exception_handler(RequestValidationError)
    async def unfit(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return _answer(400, f"the body is not valid JSON: {first['ctx']['error']}")
        place = " ".join(str(part) for part in first["loc"] if part not in ("body", "query"))
        return _answer(422, f"{place or 'the request'}: {first['msg'].removeprefix('Value error, ')}")

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        LOG.error("%s %s", request.method, request.url.path, exc_info=error)
        return _answer(500, "something is wrong on this side; the log of the server says what")


def _answer(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    sentence = printable(" ".join(str(sentence).split()))
    return JSONResponse({"error": sentence}, status, headers)
