"""The settings of a recipe with defaults and one-line docs, read from the source of `config`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

from spikeclip import config
from spikeclip.config.parse import expected
from spikeclip.config.ranges import stated
from spikeclip.errors import InputError

_TOWERS = {"model.image": config.ImageConfig, "model.text": config.TextConfig}


class Key(NamedTuple):
    """A setting: its dotted key, default ("" where it has none), what it takes ("" for a table) and its doc."""

    key: str
    default: str
    takes: str
    doc: str


def recipe_keys() -> list[Key]:
    """Return every setting of a recipe, in the order of `config`.

    `N` stands for a number: stages.N.epochs. The defaults of `model` are the preset's.
    """
    keys = []
    for key in _fields(config.RunConfig):
        keys.append(key._replace(default="") if key.key.startswith("model.") else key)
        if key.key in _TOWERS:
            keys += [inner._replace(default="") for inner in _fields(_TOWERS[key.key], f"{key.key}.")]
    return keys


def keys_text(width: int = 100) -> str:
    """Return `recipe_keys` as text: each setting with its default, its doc and what it takes."""
    lines = ["Settings of a recipe and their defaults (change one on the command line: key=value):", ""]
    for key, default, takes, doc in recipe_keys():
        lines.append(f"{key}" + (f" = {default}" if default else ""))
        for text in filter(None, (doc, takes)):
            lines += textwrap.wrap(text, width, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def field_docs(cls: type) -> dict[str, str]:
    """Return the docstring under each field of a dataclass; raises `InputError` where a field has none."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    docs, body = {}, definition.body
    for statement, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):
                raise InputError(f"{cls.__name__}.{statement.target.id} has no docstring")
            docs[statement.target.id] = " ".join(str(after.value.value).split())
    return docs


def _fields(cls: type, prefix: str = "") -> Iterator[Key]:
    docs, hints = field_docs(cls), typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint, key = hints[field.name], prefix + field.name
        inner = typing.get_args(hint)[0] if typing.get_origin(hint) is list else hint
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield Key(key, "", "", docs[field.name])
            yield from _fields(inner, f"{key}." if inner is hint else f"{key}.N.")
        else:
            takes = ", ".join(filter(None, (expected(hint), stated(cls, field.name))))
            yield Key(key, _shown(field), f"[{takes}]", docs[field.name])


def _shown(field: dataclasses.Field) -> str:
    has_factory = field.default_factory is not dataclasses.MISSING
    value: Any = field.default_factory() if has_factory else field.default  # type: ignore[misc]
    if value is dataclasses.MISSING:
        return "(required)"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
