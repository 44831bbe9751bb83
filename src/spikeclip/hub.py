"""What is a name of the Hugging Face hub, and whether it can be asked at all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from spikeclip.errors import InputError, first_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SECONDS = 10
"""How long the hub may take to say whether it has something."""


def is_hub_name(name: str) -> bool:
    """Whether a name has the form owner/name, and no folder `owner` of the working directory makes it a path."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name)) and not os.path.isdir(Path(name).parent)


def hub_answers(ask: Callable[[HfApi], object], start: str, kind: str) -> bool:
    """Return whether the hub answers a question; without one, its clients try again for half a minute.

    start: the first words of a message, up to the hub. kind: what is asked for. Raises `InputError` where the hub has
    none of that name, and where it refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    try:
        ask(HfApi())
    except RepositoryNotFoundError:
        raise InputError(f"{start} has no {kind} of this name") from None
    except HfHubHTTPError as error:
        raise InputError(f"{start} refused it ({first_line(error)})") from error
    except Exception:  # no network, whatever the reason: an earlier download will do
        return False
    return True
