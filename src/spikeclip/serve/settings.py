"""What a server allows; everything that a stranger could make large has a bound here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from spikeclip.errors import InputError


@dataclass(frozen=True)
class Settings:
    """The bounds of a server, and who may use it."""

    token: str | None = None
    """What a request must carry as `Authorization: Bearer TOKEN`; None lets everyone in."""
    hosts: tuple[str, ...] = ()
    """Names that the Host header may have, without the port; empty for any. It keeps pages of other sites, whose name
    was made to point at this machine, from reading answers."""
    upload_bytes: int = 20_000_000
    """Largest body of a request."""
    json_bytes: int = 1_000_000
    """Largest body of JSON that holds no picture: lists take many times their text in memory."""
    upload_pixels: int = 50_000_000
    """Largest picture; formats that take much memory have a lower bound of their own (`data.formats`)."""
    pictures: int = 32
    """Pictures of one request, and texts of one request are 16 times as many."""
    queue: int = 64
    """Requests that are worked on or wait at a time; the next one is answered 503."""
    batch: int = 32
    """Inputs that the engine gets at a time."""
    wait: float = 0.003
    """Seconds that the first input of a batch waits for others."""
    timeout: float = 30.0
    """Seconds until a request must be here as a whole, and until the engine must have answered it."""

    def __post_init__(self) -> None:
        """Raise `InputError` for a token that no header can carry."""
        if self.token is not None and not re.fullmatch(r"[!-~]+", self.token):
            raise InputError(
                "a token is letters, digits and signs of ASCII without spaces: choose another one"
            )

    @property
    def texts(self) -> int:
        """Texts of one request: labels times templates, or texts to embed."""
        return 16 * self.pictures

    @property
    def letters(self) -> int:
        """Characters of all texts of one request, as they reach the model: words of a stranger take it long."""
        return 256 * self.texts

    @property
    def held_bytes(self) -> int:
        """Bytes of all bodies together that are held at a time."""
        return 4 * self.upload_bytes
