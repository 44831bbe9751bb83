"""Random edits of recipes: each is refused in one line that names its key, or is a recipe that can start."""

import copy
import json
import math
import random
from pathlib import Path

import yaml

from spikeclip.cli.keys import recipe_keys
from spikeclip.config import RunConfig, from_dict
from spikeclip.errors import InputError
from spikeclip.train.recipe import load_recipe, recipe_values

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
VALUES = [
    math.nan,
    math.inf,
    -math.inf,
    -1,
    -0.5,
    0,
    0.5,
    1,
    2,
    2**32,
    2**63,
    10**9,
    10**400,
    1e300,
    "",
    " ",
    "x",
    "x" * 100_000,
    "\0",
    "🙂",
    None,
    True,
    [],
    [1],
    [[]],
    ["a", "b"],
    {},
    {"a": 1},
    {"stage": "finetune"},
]
EDITS = 300


def edited(values: dict, key: str, value: object, rng: random.Random) -> str:
    """Set a key such as stages.N.epochs, in a stage drawn by `rng`; return the key of that place."""
    *parents, last = [
        str(rng.randrange(len(values["stages"]))) if part == "N" else part for part in key.split(".")
    ]
    target = values
    for part in parents:
        target = target[int(part)] if isinstance(target, list) else target.setdefault(part, {})
    target[last] = value
    return ".".join([*parents, last])


def test_every_edit_of_a_value_is_refused_by_name_or_can_start(tmp_path):
    rng, file = random.Random(0), tmp_path / "r.yaml"
    recipes = [yaml.safe_load(path.read_text()) for path in RECIPES]
    keys = [key.key for key in recipe_keys()]
    wrong, refused = [], 0
    for place in range(EDITS):
        values = copy.deepcopy(rng.choice(recipes))
        value = VALUES[place % len(VALUES)]
        key = edited(values, keys[place % len(keys)], value, rng)
        file.write_text(json.dumps(values))
        try:
            config = load_recipe(file)
        except InputError as error:
            refused += 1
            said = str(error)
            # Parts of a model that do not fit each other are named together.
            together = said.startswith(("model.pretrained takes", "model: "))
            named = key in said or (key.startswith("model.") and together)
            if "\n" in said or len(said) > 600 or not (named or "is not valid YAML" in said):
                wrong.append(f"{key}={value!r:.40}: {said:.200}")
        else:
            assert from_dict(RunConfig, json.loads(json.dumps(recipe_values(config)))) == config
    assert wrong == []
    assert EDITS / 3 < refused < EDITS
    assert list(tmp_path.iterdir()) == [file]


DAMAGE = [b"", b"\t", b"\xff", b"&a ", b"*a", b"[", b"}", b": ", b"!!python/object:os.system ", b"\n- ", b"%"]


def test_damaged_text_is_refused_or_read(tmp_path):
    rng, file = random.Random(0), tmp_path / "r.yaml"
    texts = [path.read_bytes() for path in RECIPES]
    said = []
    for _ in range(100):
        text = bytearray(rng.choice(texts))
        for _ in range(rng.randint(1, 6)):
            start = rng.randrange(len(text))
            text[start : start + rng.randint(0, 9)] = rng.choice(DAMAGE)
        file.write_bytes(text)
        try:
            load_recipe(file)
        except InputError as error:
            said.append(str(error))
    assert [line for line in said if "\n" in line or len(line) > 600] == []
    assert said


PARTS = ["stages", "*", "0", "1", "99", "²", "٣", "1" * 5000, "finetune", "align_text", "data", "source", "model",
         "image", "std", "teacher", "path", "optimizer", "lr", "", "-1", "\0"]  # fmt: skip
TEXTS = ["", "[", "}", "*x", "&a [*a]", "!!python/object:x []", "!!binary aGk=", "2026-99-99", ".nan",
         "9" * 5000, '"\\ud800"', "\t", "a: b: c", "---", "<<", "!!set {a, b}", "{0: 1}", "finetune"]  # fmt: skip


def test_every_change_of_the_command_line_is_made_or_refused_in_one_line():
    rng, said = random.Random(0), []
    for _ in range(300):
        key = ".".join(rng.choices(PARTS, k=rng.randint(1, 4)))
        try:
            load_recipe("cifar10", [f"{key}={rng.choice(TEXTS)}"])
        except InputError as error:
            said.append(str(error))
    assert [line for line in said if "\n" in line or len(line) > 600] == []
    assert len(said) > 200
