"""YAML of settings from people: one small regular file, every key once, no more values than it seems to have."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

import yaml

from spikeclip.errors import InputError

BYTES, VALUES, DEPTH = 1_000_000, 50_000, 50
"""A file of settings has at most so many bytes, and so many values, one in another so deep, aliases (*name) counted."""
DIGITS = 250
"""Of the longest whole number, which is a float too, whatever its base."""


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds, None where it is empty.

    Raises `InputError` for a file that is missing, no regular file, larger than `BYTES` or no UTF-8 text, and as
    `parse_yaml` does.
    """
    if not path.exists():
        raise InputError(f"no such file: {path}")
    if not path.is_file():
        raise InputError(
            f"{path} is {'a folder' if path.is_dir() else 'no regular file'}, not a file of YAML"
        )
    try:
        with path.open("rb") as file:
            content = file.read(BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > BYTES:
        raise InputError(f"{path} is larger than {BYTES:,} bytes: this is no file of settings")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path} is not UTF-8 text, from line {line} on: save it as UTF-8") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Return what YAML says; raises `InputError` that starts with `where` for anything that it cannot mean.

    That is bad syntax, a tag that makes an object, a key that stands twice (YAML would take the last), an alias of
    what it stands in, more than `VALUES` values or `DEPTH` levels, and numbers or dates that there are not.
    """
    try:
        return _unshared(yaml.load(text, _Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark and "\n" in text.strip() else ""
        problem = error.problem or "cannot be read"
        if error.context and problem.startswith("but "):
            problem = f"{error.context}, {problem}"
        if "'\\t'" in problem:
            problem = "a tab; indent with spaces"
        raise InputError(f"{where} is not valid YAML: {place}{problem[:200]}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InputError(f"{where} is not valid YAML: {' '.join(str(error).split())[:200]}") from error


def _unshared(value: Any) -> Any:
    """Copy tables and lists, so that a change of one that an alias repeats changes no other."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


class _Loader(yaml.SafeLoader):
    """Measures what aliases repeat, and compares the keys of a table, before anything is built."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.values = 0
        self.heights = [0]  # of the tallest value so far in each table and list that is open
        self.measured: dict[int, tuple[int, int]] = {}  # values and height of a finished node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        before, mark = self.values, self.peek_event().start_mark
        alias = self.check_event(yaml.AliasEvent)
        self.values += 1
        self.heights.append(0)
        if len(self.heights) > DEPTH:
            raise yaml.MarkedYAMLError(problem="it is nested too deeply", problem_mark=mark)
        node = super().compose_node(parent, index)
        height = self.heights.pop() + 1
        if alias:
            if id(node) not in self.measured:
                raise yaml.MarkedYAMLError(problem="an alias inside of what it stands for", problem_mark=mark)
            values, height = self.measured[id(node)]
            self.values += values
        else:
            self.measured[id(node)] = self.values - before, height
        self.heights[-1] = max(self.heights[-1], height)
        if self.values > VALUES:
            raise yaml.MarkedYAMLError(problem=f"more than {VALUES:,} values", problem_mark=mark)
        if len(self.heights) + height > DEPTH:
            raise yaml.MarkedYAMLError(problem="it is nested too deeply", problem_mark=mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                name, line = (key.tag, key.value), key.start_mark.line + 1
                if name in lines:
                    problem = f"key {reprlib.repr(key.value)} stands twice in one table, first in line {lines[name]}"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                lines[name] = line
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > DIGITS:
            raise yaml.MarkedYAMLError(problem="a number of hundreds of digits", problem_mark=node.start_mark)
        return super().construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
