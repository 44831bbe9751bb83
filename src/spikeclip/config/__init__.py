"""What a model and a run are made of, as plain dataclasses; presets are functions that return them."""

from spikeclip.config.model import (
    TWINS,
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
from spikeclip.config.presets import PRESETS, ModelSettings, model_config
from spikeclip.config.run import (
    AugmentConfig,
    DataConfig,
    LossConfig,
    OptimizerConfig,
    RunConfig,
    StageConfig,
    TargetConfig,
    TeacherConfig,
    TeacherTraining,
)
from spikeclip.config.saved import Taught, read_config, read_saved, read_taught, saved_values

__all__ = [
    "PRESETS",
    "TWINS",
    "AugmentConfig",
    "DataConfig",
    "ImageConfig",
    "ImageFormat",
    "LossConfig",
    "ModelConfig",
    "ModelSettings",
    "NeuronConfig",
    "NeuronKind",
    "OptimizerConfig",
    "RunConfig",
    "StageConfig",
    "Surrogate",
    "TargetConfig",
    "Taught",
    "TeacherConfig",
    "TeacherTraining",
    "TextConfig",
    "check",
    "from_dict",
    "model_config",
    "read_config",
    "read_saved",
    "read_taught",
    "saved_values",
    "to_dict",
]
