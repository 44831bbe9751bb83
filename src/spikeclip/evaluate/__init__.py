"""What a network recognises: tasks, spike rates, and the one record that holds a result."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikeclip.evaluate.figure import predictions_figure
    from spikeclip.evaluate.rates import mean_rates
    from spikeclip.evaluate.record import evaluate_model, evaluate_tasks
    from spikeclip.evaluate.retrieval import retrieval_metrics
    from spikeclip.evaluate.tasks import TaskSettings
    from spikeclip.evaluate.zero_shot import zero_shot_metrics

_HOME = {
    "TaskSettings": "tasks",
    "evaluate_model": "record",
    "evaluate_tasks": "record",
    "mean_rates": "rates",
    "predictions_figure": "figure",
    "retrieval_metrics": "retrieval",
    "zero_shot_metrics": "zero_shot",
}

__all__ = [
    "TaskSettings",
    "evaluate_model",
    "evaluate_tasks",
    "mean_rates",
    "predictions_figure",
    "retrieval_metrics",
    "zero_shot_metrics",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
