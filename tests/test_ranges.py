from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest

from spikeclip.config import from_dict
from spikeclip.config.ranges import Range, check_ranges, stated
from spikeclip.errors import InputError


@dataclass(frozen=True)
class Bed:
    legs: Annotated[int, Range(1, 64)] = 4
    share: Annotated[float, Range(0, 1, low_open=True)] = 0.5
    weights: Annotated[tuple[float, ...], Range(0)] = (1.0,)
    height: Annotated[Literal["preset"] | float | None, Range(low=0, high=3, high_open=True)] = "preset"
    seed: int | None = None
    named: Annotated[dict[str, float], Range(0)] = field(default_factory=dict)
    label: str = "any"

    def __post_init__(self) -> None:
        check_ranges(self, "bed.")


@pytest.mark.parametrize(
    "values",
    [
        {"legs": 1},
        {"legs": 64},
        {"share": 1},
        {"weights": (0, 2.5)},
        {"weights": ()},
        {"height": None},
        {"height": 0.0},
        {"seed": 10**400},
        {"named": {"a": 0.0}},
    ],
)
def test_values_inside_their_range_are_taken(values: dict) -> None:
    (name,) = values
    assert getattr(Bed(**values), name) == values[name]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"legs": 0}, "bed.legs must be a whole number between 1 and 64, got 0"),
        ({"legs": 65}, "bed.legs must be a whole number between 1 and 64, got 65"),
        ({"legs": 2.0}, "bed.legs must be a whole number between 1 and 64, got 2.0"),
        ({"legs": True}, "bed.legs must be a whole number between 1 and 64, got True"),
        ({"legs": None}, "bed.legs must be a whole number between 1 and 64, got None"),
        ({"share": 0}, "bed.share must be a number above 0 and at most 1, got 0"),
        ({"share": math.nan}, "bed.share must be a number above 0 and at most 1, got nan"),
        ({"share": "0.5"}, "bed.share must be a number above 0 and at most 1, got '0.5'"),
        ({"weights": (1.0, math.inf)}, "bed.weights.1 must be a number at least 0, got inf"),
        ({"height": 3}, "bed.height must be a number at least 0 and below 3, got 3"),
        ({"height": "tall"}, "bed.height must be a number at least 0 and below 3, got 'tall'"),
        ({"seed": 1.5}, "bed.seed must be a whole number, got 1.5"),
        ({"named": {"a": -1.0}}, "bed.named.a must be a number at least 0, got -1.0"),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name(values: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        Bed(**values)
    assert str(error.value) == message


def test_a_value_of_thousands_of_digits_is_shown_short() -> None:
    with pytest.raises(InputError) as error:
        Bed(legs=10**4000)
    assert len(str(error.value)) < 120


def test_a_table_of_settings_names_the_place_where_the_value_stands() -> None:
    with pytest.raises(InputError, match=r"^rooms\.2\.legs must be a whole number between 1 and 64, got 99$"):
        from_dict(Bed, {"legs": 99}, "rooms.2")


def test_a_range_is_told_in_words() -> None:
    assert stated(Bed, "legs") == "between 1 and 64"
    assert stated(Bed, "share") == "above 0 and at most 1"
    assert stated(Bed, "weights") == "at least 0"
    assert stated(Bed, "seed") == stated(Bed, "label") == ""
