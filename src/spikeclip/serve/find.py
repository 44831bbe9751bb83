"""Searching an index of pictures: our API, thumbnails, and the address that clip-retrieval's clients ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from fastapi import Query as Address
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from spikeclip.encode.vectors import unit
from spikeclip.errors import InputError
from spikeclip.serve.batches import Batched
from spikeclip.serve.recognise import Text
from spikeclip.serve.refusals import LOG, Refused, busy
from spikeclip.serve.settings import Settings
from spikeclip.serve.thumbnail import thumbnail_of
from spikeclip.serve.uploads import from_base64, pixels_of

if TYPE_CHECKING:
    from spikeclip.search import Hit, Index

Query = TypeVar("Query", bound=BaseModel)
MOST_IMAGES = 1000
ALIKE = 0.94
"""Cosine from which on clip-retrieval takes two pictures for the same."""
DEEPEST = 10_000
"""The last result that can be paged to."""
VALUES = 20_000
"""Values of a query: a vector has some hundred, and commas in its texts count too."""
Words = Annotated[Text | None, Field(description="What the pictures should show.")]


class SearchQuery(BaseModel, extra="forbid"):
    """What to search for: words, a picture, both, a vector, or a picture of the index."""

    text: Words = None
    without: Annotated[Text | None, Field(description="What they should not show.")] = None
    like: Annotated[str | None, Field(max_length=128, description="The id of a picture of the index.")] = None
    vector: Annotated[list[float] | None, Field(description="An embedding of this model.")] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 20
    cursor: Annotated[
        str | None, Field(pattern="^[0-9]{1,6}$", description="What `next` of the page before said.")
    ] = None
    where: Annotated[
        str | None,
        Field(max_length=500, description="A filter in SQL, such as width >= 800 AND path LIKE '%2024%'."),
    ] = None

    @property
    def offset(self) -> int:
        """How many results come before this page."""
        return int(self.cursor or 0)


class Picture(BaseModel):
    """A picture of the index. Where it lies on the machine is not told."""

    id: str
    score: float
    """Cosine between its embedding and the query's."""
    name: str
    """Of its file, without the folder."""
    size: int
    """Bytes of its file."""
    mtime: float
    """When it was changed, seconds since 1970."""
    width: int
    height: int
    thumbnail: str
    """Address of a small square of it on this server."""


class Found(BaseModel):
    """A page of results, best first."""

    results: list[Picture]
    next: str | None
    """The cursor of the next page; None on the last one."""


class KnnQuery(BaseModel):
    """What clip-retrieval's clients send; what else they send has no meaning here and is ignored."""

    text: Text | None = None
    image: str | None = None
    image_url: str | None = None
    embedding_input: list[float] | None = None
    modality: str = "image"
    num_images: Annotated[int, Field(ge=1, le=MOST_IMAGES)] = 40
    num_result_ids: Annotated[int, Field(ge=1)] | None = None
    deduplicate: bool = False


class KnnResult(BaseModel):
    """A result as clip-retrieval's backend gives it."""

    id: str
    similarity: float
    url: str
    """Address of a thumbnail."""
    caption: str
    """Name of the file: an index holds no captions."""


QUERY = SearchQuery.model_json_schema()
FORM = {
    "type": "object",
    "properties": {
        "picture": {"type": "string", "format": "binary", "description": "A picture file."},
        **QUERY["properties"],
    },
}


def _body(schemas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What OpenAPI says of a body that a route reads by itself."""
    return {"requestBody": {"content": {kind: {"schema": schema} for kind, schema in schemas.items()}}}


async def read_query(request: Request) -> tuple[SearchQuery, bytes | None]:
    """Return the query of a body, JSON or a form, and the picture that a form holds."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("application/json", ""):
        return _checked(SearchQuery.model_validate_json, _short(await request.body())), None
    if kind not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise Refused(415, f"a body of {kind[:80]}: send JSON, or a form with a picture")
    try:
        form = await request.form(max_files=1, max_fields=20)
    except UnicodeError:
        raise Refused(400, "the form is not text in the charset that it names: send it as UTF-8") from None
    sent = form.get("picture")
    if isinstance(sent, str):
        raise Refused(422, "picture: a text came where a file was expected (curl -F picture=@cat.jpg)")
    values: dict[str, Any] = {
        name: value for name, value in form.items() if value != "" and name != "picture"
    }
    if "vector" in values:
        values["vector"] = str(values["vector"]).strip("[] ").split(",")
    return _checked(SearchQuery.model_validate, values), None if sent is None else await sent.read()


async def read_knn(request: Request) -> KnnQuery:
    """Return clip-retrieval's query, which its client sends without a content type."""
    return _checked(KnnQuery.model_validate_json, _short(await request.body()))


def routes(encoder: Batched, index: Index | None, settings: Settings) -> APIRouter:
    """Return /v1/search, /v1/pictures/{id} and /knn-service."""
    router = APIRouter(tags=["search"])
    size = encoder.image_format.image_size

    def opened() -> Index:
        if index is None:
            raise Refused(
                404, "this server has no index: make one with `spikeclip index FOLDER` and start it with --db"
            )
        return index

    def vector(text: str | None, picture: bytes | None, without: str | None = None) -> np.ndarray:
        from spikeclip.search import query_vector

        pictures_NHWC = () if picture is None else pixels_of(picture, size, settings)[None]
        texts, others = ([words] if words else [] for words in (text, without))
        return query_vector(encoder, texts=texts, pictures=pictures_NHWC, without=others)

    def search(query: SearchQuery, picture: bytes | None = None) -> Found:
        pictures = opened()
        kinds = [bool(query.text) or picture is not None, query.vector is not None, query.like is not None]
        if sum(kinds) != 1:
            raise Refused(422, "a search takes one of: text and picture, vector, like")
        if query.offset + query.limit > DEEPEST:
            raise Refused(422, f"cursor: results end after {DEEPEST:,}: ask something narrower")
        if query.like is not None:
            with without_its_place(pictures):
                if pictures.get(query.like) is None:
                    raise Refused(404, "like: no picture of the index has this id")
                vector_D = pictures.vector(query.like)
        elif query.vector is not None:
            vector_D = _vector(query.vector, encoder.dim)
        else:
            vector_D = vector(query.text, picture, query.without)
        with without_its_place(pictures):
            hits = pictures.search(vector_D, query.limit + 1, offset=query.offset, where=query.where)
        more = len(hits) > query.limit
        return Found(
            results=[_picture(hit) for hit in hits[: query.limit]],
            next=str(query.offset + query.limit) if more else None,
        )

    @router.get("/v1/search")
    def search_by_address(query: Annotated[SearchQuery, Address()]) -> Found:
        """Search by words, a vector, or a picture of the index."""
        return search(query)

    @router.post("/v1/search", openapi_extra=_body({"application/json": QUERY, "multipart/form-data": FORM}))
    def search_by_body(
        read: Annotated[tuple[SearchQuery, bytes | None], Depends(read_query)],
    ) -> Found:
        """Search by JSON; or by a form, which may hold a picture."""
        return search(*read)

    @router.get(
        "/v1/pictures/{id}", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}}
    )
    def thumbnail(id: str, side: Annotated[int, Address(alias="size", ge=16, le=512)] = 256) -> Response:
        """Return the centre of a picture of the index as a square JPEG."""
        with without_its_place(opened()) as pictures:
            hit = pictures.get(id)
        if hit is None:
            raise Refused(404, "no picture of the index has this id")
        return Response(
            thumbnail_of(hit, side),
            media_type="image/jpeg",
            headers={"Cache-Control": "private, max-age=3600"},
        )

    @router.post("/knn-service", openapi_extra=_body({"application/json": KnnQuery.model_json_schema()}))
    def knn(query: Annotated[KnnQuery, Depends(read_knn)], request: Request) -> list[KnnResult]:
        """Answer clip-retrieval's clients."""
        pictures = opened()
        if query.modality != "image":
            raise Refused(400, f"modality {query.modality[:40]!r}: this index holds pictures, ask for image")
        if query.embedding_input is not None and not query.text and not query.image:
            vector_D = _vector(query.embedding_input, encoder.dim)
        elif query.text or query.image:
            vector_D = vector(query.text, None if query.text else from_base64(query.image or "", "image"))
        elif query.image_url:
            raise Refused(400, "image_url: this server opens no addresses; send the picture itself as image")
        else:
            raise Refused(400, "nothing to search for: send text, image or embedding_input")
        with without_its_place(pictures):
            hits = pictures.search(vector_D, min(query.num_result_ids or query.num_images, MOST_IMAGES))
            if query.deduplicate:
                hits = _distinct(pictures, hits)
        base = str(request.base_url)
        return [
            KnnResult(
                id=hit.id, similarity=hit.score, url=f"{base}v1/pictures/{hit.id}", caption=hit.path.name
            )
            for hit in hits[: query.num_images]
        ]

    return router


@contextmanager
def without_its_place(index: Index) -> Iterator[Index]:
    """Keep what an index says of the folder it is in to the log."""
    try:
        yield index
    except InputError as error:
        if str(index.folder) not in str(error):
            raise
        LOG.error("%s", error)
        raise busy("the index cannot be used now; the log of the server says why") from error


def _picture(hit: Hit) -> Picture:
    return Picture(
        id=hit.id,
        score=hit.score,
        name=hit.path.name,
        size=hit.size,
        mtime=hit.mtime,
        width=hit.width,
        height=hit.height,
        thumbnail=f"/v1/pictures/{hit.id}",
    )


def _distinct(index: Index, hits: list[Hit]) -> list[Hit]:
    """Return hits without those that are `ALIKE` to a better one."""
    found = index.vectors([hit.id for hit in hits])
    hits = [hit for hit in hits if hit.id in found]  # none that was removed meanwhile
    if not hits:
        return []
    vectors_KD = np.stack([found[hit.id] for hit in hits])
    alike_KK = np.tril(vectors_KD @ vectors_KD.T > ALIKE, -1)
    return [hit for hit, better_K in zip(hits, alike_KK, strict=True) if not better_K.any()]


def _vector(values: list[float], dim: int) -> np.ndarray:
    vector_D = np.array(values, np.float64)
    if vector_D.shape != (dim,):
        raise Refused(422, f"vector: {len(values):,} numbers, this model has {dim}")
    if not np.isfinite(vector_D).all() or not 1e-12 < np.linalg.norm(vector_D) < 1e12:
        raise Refused(422, "vector: expected finite numbers that are not all zero")
    return unit(vector_D).astype(np.float32)


def _short(body: bytes) -> bytes:
    """Refuse a body of more values than a query has, before it is read: it may be large, as it may hold a picture."""
    if (values := body.count(b",") + body.count(b"[") + body.count(b"{")) > VALUES:
        raise Refused(422, f"the body has some {values:,} values, a query has at most {VALUES:,}")
    return body


def _checked(read: Callable[[Any], Query], values: Any) -> Query:
    """Let a query that does not fit be answered as FastAPI's own are."""
    try:
        return read(values)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None
