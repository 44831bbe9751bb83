"""The settings of a recipe with defaults and one-line docs, read from the source of `config`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

from spikeclip import config
from spikeclip.errors import InputError

_TOWERS = {"model.image": config.ImageConfig, "model.text": config.TextConfig}


def recipe_keys() -> list[tuple[str, str, str]]:
    """Return (key, default, doc) of every setting of a recipe, in the order of `config`.

    Keys are dotted, `N` stands for a number: stages.N.epochs. The defaults of `model` are the preset's.
    """
    keys = []
    for key, default, doc in _fields(config.RunConfig):
        keys.append((key, "" if key.startswith("model.") else default, doc))
        if key in _TOWERS:
            keys += [(name, "", doc) for name, _, doc in _fields(_TOWERS[key], f"{key}.")]
    return keys


def keys_text(width: int = 100) -> str:
    """Return `recipe_keys` as text, one setting per paragraph."""
    lines = ["Settings of a recipe and their defaults (change one on the command line: key=value):", ""]
    for key, default, doc in recipe_keys():
        lines.append(f"{key}" + (f" = {default}" if default else ""))
        lines += textwrap.wrap(doc, width, initial_indent="    ", subsequent_indent="    ")
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


def _fields(cls: type, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    docs, hints = field_docs(cls), typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint, key = hints[field.name], prefix + field.name
        inner = typing.get_args(hint)[0] if typing.get_origin(hint) is list else hint
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield key, "", docs[field.name]
            yield from _fields(inner, f"{key}." if inner is hint else f"{key}.N.")
        else:
            yield key, _shown(field), docs[field.name]


def _shown(field: dataclasses.Field) -> str:
    has_factory = field.default_factory is not dataclasses.MISSING
    value: Any = field.default_factory() if has_factory else field.default  # type: ignore[misc]
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
