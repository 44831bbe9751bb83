"""`spikeclip serve`: a model, and an index of pictures, behind HTTP and a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from spikeclip.cli.options import Engine, known_engine, with_options
from spikeclip.defaults import INDEX, MODEL

if TYPE_CHECKING:
    from spikeclip.search import Index

HELP = """Answer over HTTP, and show a page in the browser.

The page searches an index of pictures by words or by a picture (--db, see `spikeclip index`), names a picture among
your labels, and shows the spikes of the network that does it. Programs ask the addresses that GET /openapi.json
lists, and clip-retrieval's clients ask /knn-service. Ctrl-C answers what has come in and stops."""
EXAMPLES = """Examples:

\b
  spikeclip serve
  spikeclip serve --db photos.index
  SPIKECLIP_TOKEN=secret spikeclip serve --host 0.0.0.0 --port 80
  curl -F picture=@cat.jpg -F labels=cat,dog http://127.0.0.1:8000/v1/classify

Only this machine can ask it unless --host names another address; then give it a token."""


class ServeOptions(NamedTuple):
    db: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Index of pictures.", show_default=f"{INDEX}, where there is one"),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Shipped name, saved model, run, hub name or teacher.",
            show_default=f"that of the index, or {MODEL}",
        ),
    ] = None
    engine: Engine = None
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen at.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", envvar="SPIKECLIP_TOKEN", help="What requests must carry to be answered."
        ),
    ] = None
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; more are answered 503.")] = 64
    megabytes: Annotated[float, typer.Option(min=0.1, help="Largest request.")] = 20
    megapixels: Annotated[float, typer.Option(min=0.1, help="Largest picture.")] = 50
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds for a request to come in, and for its answer.")
    ] = 30


@with_options(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Answer over HTTP."""
    from spikeclip.open import open_encoder
    from spikeclip.serve.listen import LOCAL, listen, run
    from spikeclip.serve.settings import Settings

    precision = known_engine(options.engine)
    settings = Settings(
        token=options.token or None,
        hosts=LOCAL if options.host in LOCAL else (),
        upload_bytes=round(1e6 * options.megabytes),
        upload_pixels=round(1e6 * options.megapixels),
        queue=options.queue,
        timeout=options.timeout,
    )
    listener = listen(
        options.host, options.port
    )  # before the model is read: a port that is taken costs no time
    from spikeclip.serve.app import create_app

    index = _index(options.db)
    model = options.model or (index.model if index else MODEL)
    encoder = open_encoder(model, precision)
    if index:
        index.check(encoder, options.model)
    run(create_app(encoder, index, settings), listener, settings)


def _index(folder: Path | None) -> Index | None:
    """Open the index that was named, or the usual one where there is one."""
    from spikeclip.search import Index

    usual = Path(INDEX).expanduser()
    return Index.open(folder or usual) if folder or usual.is_dir() else None
