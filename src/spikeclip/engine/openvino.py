"""OpenVINO (extra `openvino`), imported without its telemetry."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from spikeclip.errors import missing_extra

_TELEMETRY = "openvino_telemetry"


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def load_openvino() -> Any:
    """Import OpenVINO; raises `InputError` where it is not installed.

    Its import would report itself to a server of others, from a process that it forks. Without the package that does
    so, OpenVINO takes a stand-in that reports nothing.
    """
    if not has_openvino():
        raise missing_extra("openvino", "openvino")
    if "openvino" not in sys.modules and _TELEMETRY not in sys.modules:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # importing it fails
        try:
            return import_module("openvino")
        finally:
            del sys.modules[_TELEMETRY]
    return import_module("openvino")
