"""OpenVINO (extra `openvino`), imported without its telemetry."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from spikeclip.errors import InputError, first_line, missing_extra

_TELEMETRY = "openvino_telemetry"


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def load_openvino() -> Any:
    """Import OpenVINO; raises `InputError` where it is not installed or damaged.

    Its import would report itself to a server of others, from a process that it forks. Without the package that does
    so, OpenVINO takes a stand-in that reports nothing.
    """
    if not has_openvino():
        raise missing_extra("openvino", "openvino")
    if "openvino" not in sys.modules and _TELEMETRY not in sys.modules:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # importing it fails
        try:
            return _imported()
        finally:
            del sys.modules[_TELEMETRY]
    return _imported()


def _imported() -> Any:
    try:
        return import_module("openvino")
    except (ImportError, OSError) as error:
        raise InputError(
            f"OpenVINO is installed and cannot be imported ({first_line(error)}): install it again, or remove it by "
            "`pip uninstall openvino`; all runs without it, photographs ten times slower"
        ) from error
