"""Options as JSON and back: a frozen dataclass in, an equal one out.

Nothing in a file is evaluated: values are numbers, strings, lists and nested dataclasses.
"""

import contextlib
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from uncus.data.errors import BadInput

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """The fields of a dataclass as plain JSON values."""
    return {field.name: to_json(getattr(config, field.name)) for field in fields(config)}


def to_json(value: Any) -> Any:
    """A field's value as a plain JSON value."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value


def from_dict(kind: type[T], values: Any, source: object) -> T:
    """Build ``kind`` from JSON values read from ``source``, checking every name and type.

    Raises
    ------
    BadInput: an unknown key, a wrong type, or a value out of range.
    """
    if not isinstance(values, Mapping):
        cause = f"contains a {type(values).__name__}, not options"
        raise BadInput(source, cause, "it must be a JSON object {...}")
    hints = typing.get_type_hints(kind)
    known = [field.name for field in fields(kind) if field.init]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            remedy = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise BadInput(source, f"unknown key {name!r}", remedy)
    try:
        return kind(**{n: convert(hints[n], v, f"{source}: {n}") for n, v in values.items()})
    except BadInput:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(source, str(error), "correct the file") from error


def convert(hint: Any, value: Any, key: str) -> Any:
    """Convert a JSON value to the type ``hint``; raises BadInput, naming ``key``."""
    origin = get_origin(hint)
    if origin is Literal:
        if value in get_args(hint):
            return value
    elif origin in (typing.Union, types.UnionType):
        *first, last = [option for option in get_args(hint) if option is not type(None)]
        if value is None and type(None) in get_args(hint):
            return None
        for option in first:
            with contextlib.suppress(BadInput):
                return convert(option, value, key)
        return convert(last, value, key)
    elif origin is tuple:
        if isinstance(value, list):
            return tuple(convert(get_args(hint)[0], item, key) for item in value)
    elif is_dataclass(hint):
        return from_dict(typing.cast(type[Any], hint), value, key)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif hint in (int, str, bool) and type(value) is hint and (hint is str or abs(value) < 2**63):
        return value
    wanted = getattr(hint, "__name__", str(hint))
    raise BadInput(key, f"{value!r} is not of type {wanted}", "correct the file")
