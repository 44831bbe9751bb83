"""YAML of settings: what is read, and what is refused before it costs anything."""

import os
import tracemalloc

import pytest

from spikeclip.config.read import BYTES, parse_yaml, read_yaml
from spikeclip.errors import InputError

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
MERGES = "a0: &a0 {k: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 2000))


def test_a_byte_order_mark_and_lines_of_windows_are_no_mistake(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_bytes("\ufeffseed: 1\r\ndata: {source: Bücher}\r\n".encode())
    assert read_yaml(file) == {"seed": 1, "data": {"source": "Bücher"}}


def test_what_an_alias_repeats_can_be_changed_alone():
    values = parse_yaml("a: &x {lr: 1, betas: [1, 2]}\nb: *x\nc: {<<: *x, lr: 3}\n", "r.yaml")
    values["b"]["betas"].append(3)
    assert values["a"] == {"lr": 1, "betas": [1, 2]}
    assert values["c"] == {"lr": 3, "betas": [1, 2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1, d: 2, c: 3}\n", "line 2: key 'c' stands twice in one table, first in line 2"),
        ("seed: 1\nepochs: 2\nseed: 3\n", "line 3: key 'seed' stands twice in one table, first in line 1"),
        ("a: &x [1, *x]\n", "an alias inside of what it stands for"),
        ("a: &x {b: *x}\n", "an alias inside of what it stands for"),
        ("a: *x\n", "found undefined alias 'x'"),
        (BOMB, "more than 50,000 values"),
        (MERGES, "more than 50,000 values"),
        ("a: [" + "1," * 60_000, "more than 50,000 values"),
        (CHAIN, "it is nested too deeply"),
        ("[" * 5000, "it is nested too deeply"),
        ("- " * 5000, "it is nested too deeply"),
        ("{a: " * 5000, "it is nested too deeply"),
        ("a:\n\tb: 1\n", "line 2: a tab; indent with spaces"),
        ("a: '\x00'", "special characters are not allowed"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor for the tag"),
        ("a: 2026-99-99", "month must be in 1..12"),
        (f"a: {10**400}", "a number of hundreds of digits"),
        (f"a: {'9' * 5000}", "a number of hundreds of digits"),
        (f"a: 0x{'f' * 5000}", "a number of hundreds of digits"),
        ("? [a]\n: 1", "found unhashable key"),
        ("a: 1\n---\nb: 2\n", "expected a single document"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_what_yaml_cannot_mean_is_one_line_with_its_place(text, message):
    with pytest.raises(InputError) as error:
        parse_yaml(text, "r.yaml")
    said = str(error.value)
    assert said.startswith("r.yaml is not valid YAML: ")
    assert message in said
    assert "\n" not in said


def test_a_file_that_is_no_file_of_settings_is_named(tmp_path):
    file = tmp_path / "r.yaml"
    with pytest.raises(InputError, match=r"^no such file: .*r.yaml$"):
        read_yaml(file)
    with pytest.raises(InputError, match="is a folder, not a file of YAML"):
        read_yaml(tmp_path)
    file.write_bytes("a: 1\nb: Bücher\n".encode("latin-1"))
    with pytest.raises(InputError, match="is not UTF-8 text, from line 2 on"):
        read_yaml(file)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is no regular file"):
        read_yaml(tmp_path / "pipe")


def test_a_large_file_and_aliases_of_aliases_take_little_memory(tmp_path):
    file = tmp_path / "r.yaml"
    with file.open("wb") as opened:
        opened.truncate(1 << 30)
    tracemalloc.start()
    with pytest.raises(InputError, match=f"is larger than {BYTES:,} bytes"):
        read_yaml(file)
    for text in (BOMB, MERGES):
        with pytest.raises(InputError):
            parse_yaml(text, "r.yaml")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
