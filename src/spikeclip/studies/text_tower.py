"""How well a student's text tower stands in for its teacher's: texts it learned, others, and pictures it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from spikeclip.config import RunConfig, Taught, from_dict
from spikeclip.data.mixture import class_keys
from spikeclip.data.prompts import build_prompts, text_key
from spikeclip.data.sources import load_pictures, rename
from spikeclip.encode.embed import embed_texts, zero_shot_classifier
from spikeclip.encode.encoder import Encoder, format_of
from spikeclip.errors import InputError
from spikeclip.evaluate.zero_shot import zero_shot_metrics
from spikeclip.open import open_encoder
from spikeclip.provenance import environment
from spikeclip.records import read_record
from spikeclip.teacher import Teacher, open_teacher
from spikeclip.train.lessons import Lessons, gather_lessons
from spikeclip.train.pictures import load_run_pictures


def compare_text_tower(
    run: Path,
    sources: Sequence[str] = (),
    split: str = "test",
    classnames: dict[str, str] | None = None,
    recogniser: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Compare the text tower of a finished run with the teacher of its recipe.

    Returns `texts`, see `text_agreement`, and `recognition`: rows as of `recognised_by_text` for the teacher's
    prototypes of the classes of each training source, and for its embeddings of pictures of `split` of `sources`,
    with class names replaced by `classnames`, or as in the recipe; `recogniser` names tables that hold these and texts
    in place of the recipe's teacher. Nothing passes the student's image tower. Raises
    `InputError` for a run that has not finished or had no teacher, and for a source of whose pictures the teacher
    holds none.
    """
    if not (run / "recipe.json").is_file():
        raise InputError(f"{run} is not the folder of a run: its recipe says which texts were held out")
    student = open_encoder(run)
    config = from_dict(RunConfig, read_record(run / "recipe.json"))
    if config.teacher.path is None:
        raise InputError(f"{run} was trained without a teacher: there is nothing to compare its texts with")
    taught_by = open_teacher(config.teacher.path)
    teacher = open_teacher(recogniser) if recogniser else taught_by
    format = format_of(student)

    def row(
        name: str, found_ND: np.ndarray, labels_N: np.ndarray, classnames: Sequence[str]
    ) -> dict[str, Any]:
        known_N = np.isfinite(found_ND).all(1)
        classes = (classnames, config.data.templates)
        return {
            "embeddings": name,
            **recognised_by_text(found_ND[known_N], labels_N[known_N], *classes, student, teacher),
        }

    rows = []
    pictures = load_run_pictures(config, format)
    keys = class_keys(config.data, pictures.sources["train"])
    for part in pictures.sources["train"]:
        found_KD = teacher.find_classes([keys[text_key(name)] for name in part.classnames])
        if np.isfinite(found_KD).any():
            name = f"class prototypes of {part.name}"
            rows.append(row(name, found_KD, np.arange(len(found_KD)), part.classnames))
    for source in sources:
        part = load_pictures(source, split, format, cache=config.data.cache)
        part = rename(part, classnames or Taught(renames=config.data.classnames).renames_of(part.classnames))
        found_ND = teacher.find_images(part)
        if part.labels is None or not np.isfinite(found_ND).any():
            raise InputError(f"{teacher.name} holds no embedding of a labelled picture of {source} {split}")
        rows.append(row(f"pictures of {part.name} {part.split}", found_ND, part.labels, part.classnames))
    return {
        "run": str(run),
        "texts": text_agreement(student, gather_lessons(config, pictures), taught_by.groups),
        "recognition": rows,
        "provenance": environment(),
    }


def text_agreement(
    student: Encoder, lessons: Lessons, groups: Mapping[str, str] | None = None
) -> dict[str, dict[str, float]]:
    """Return `cosine` and `centred_cosine` of student and teacher, means over the `texts` of a group.

    The groups are those that the teacher itself embeds and the student learned, `learned`, and those that training held
    out, `held_out`, where it held out any; for texts in `groups` of the teacher each of them, `learned, nouns`.
    Centred: less the mean of the teacher's embeddings of the learned ones of the group, as a tower that answers any
    text with that mean has a cosine of 0.86 to CLIP ViT-B/32.
    """
    assert lessons.teacher_texts_ND is not None
    held_out = torch.isin(lessons.known_texts, lessons.held_texts)
    if held_out.all():  # the texts were too few to hold any out
        held_out[:] = False
    group_of = [(groups or {}).get(text_key(lessons.texts[i])) for i in lessons.known_texts]
    agreement = {}
    for group in dict.fromkeys(group_of):
        among = torch.tensor([name == group for name in group_of])
        mean_D = lessons.teacher_texts_ND[lessons.known_texts[among & ~held_out]].mean(0)
        for name, which in (("learned", ~held_out), ("held_out", held_out)):
            rows = lessons.known_texts[among & which]
            if not len(rows):
                continue
            student_ND = torch.from_numpy(embed_texts(student, [lessons.texts[i] for i in rows]))
            teacher_ND = lessons.teacher_texts_ND[rows]
            agreement[f"{name}, {group}" if group else name] = {
                "texts": len(rows),
                "cosine": F.cosine_similarity(student_ND, teacher_ND).mean().item(),
                "centred_cosine": F.cosine_similarity(student_ND - mean_D, teacher_ND - mean_D).mean().item(),
            }
    return agreement


def recognised_by_text(
    embeddings_ND: np.ndarray,
    labels_N: np.ndarray,
    classnames: Sequence[str],
    templates: Sequence[str],
    student: Encoder,
    teacher: Teacher,
) -> dict[str, Any]:
    """Return how many of the teacher's embeddings of pictures are recognised by texts, the student's and the teacher's.

    `named`: of the classes whose prompts the teacher itself embeds, with `classes`, `pictures`, and `teacher` and
    `student`, the fractions right among them. `all`: the same of all classes, without `teacher` where it knows too few.
    """
    prompts = build_prompts(classnames, templates)
    known = [i for i, group in enumerate(prompts) if all(map(teacher.knows, group))]
    found = {}
    for name, classes in (("named", known), ("all", list(range(len(classnames))))):
        chosen_N = np.isin(labels_N, classes)
        if not chosen_N.any():
            continue
        places = np.searchsorted(classes, labels_N[chosen_N])
        names = [classnames[i] for i in classes]
        found[name] = {"classes": len(classes), "pictures": int(chosen_N.sum())}
        encoders: dict[str, Encoder] = {"student": student}
        if len(known) >= len(classes):
            encoders = {"teacher": teacher, **encoders}
        for who, encoder in encoders.items():
            texts_KD = zero_shot_classifier(encoder, names, templates)
            found[name][who] = zero_shot_metrics(embeddings_ND[chosen_N], places, texts_KD)["acc1"]
    return found
