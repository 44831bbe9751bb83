"""What a model and a run are made of, as plain dataclasses; presets are functions that return them."""

from spikeclip.config.model import (
    ImageConfig,
    ImageFormat,
    ModelConfig,
    NeuronConfig,
    NeuronKind,
    Surrogate,
    TextConfig,
    check,
)
from spikeclip.config.parse import from_dict, to_dict
from spikeclip.config.presets import PRESETS, model_config
from spikeclip.config.run import (
    TEMPLATE,
    AugmentConfig,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    RunConfig,
    StageConfig,
    TargetConfig,
    TeacherConfig,
)

__all__ = [
    "PRESETS",
    "TEMPLATE",
    "AugmentConfig",
    "DataConfig",
    "ImageConfig",
    "ImageFormat",
    "LossConfig",
    "ModelConfig",
    "NeuronConfig",
    "NeuronKind",
    "OptimizerConfig",
    "RunConfig",
    "StageConfig",
    "Surrogate",
    "TargetConfig",
    "TeacherConfig",
    "TextConfig",
    "check",
    "from_dict",
    "model_config",
    "to_dict",
]
