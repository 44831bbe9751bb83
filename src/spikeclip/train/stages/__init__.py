"""The stages of a run by name: one class and one file each."""

from __future__ import annotations

from spikeclip.config import StageConfig
from spikeclip.errors import InputError
from spikeclip.model import SpikeCLIP
from spikeclip.train.lessons import Lessons
from spikeclip.train.pictures import RunPictures
from spikeclip.train.stages.align_image import AlignImage
from spikeclip.train.stages.align_text import AlignText
from spikeclip.train.stages.contrastive import Contrastive
from spikeclip.train.stages.finetune import Finetune
from spikeclip.train.stages.stage import Stage

STAGES = {
    "align_text": AlignText,
    "align_image": AlignImage,
    "finetune": Finetune,
    "contrastive": Contrastive,
}


def make_stage(
    config: StageConfig, seed: int, model: SpikeCLIP, pictures: RunPictures, lessons: Lessons
) -> Stage[SpikeCLIP]:
    """Build the stage that `config` names, for a model as it is at its start.

    Raises `InputError` as `check_stage` does.
    """
    check_stage(config, pictures, lessons)
    return STAGES[config.stage](config, seed, model, pictures, lessons)


def check_stage(config: StageConfig, pictures: RunPictures, lessons: Lessons) -> type[Stage[SpikeCLIP]]:
    """Return the class of a stage; raises `InputError` where the run lacks what it needs."""
    kind = STAGES[config.stage]
    if kind.needs_teacher and lessons.teacher_texts_ND is None:
        raise InputError(
            f"stage {config.stage} needs a teacher: set teacher.path (contrastive is the stage without)"
        )
    kind.check(config, pictures, lessons)
    return kind
