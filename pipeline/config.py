"""Configurations as JSON and back: a frozen dataclass in, the same dataclass out.

Nothing in a file is ever evaluated: a value is a number, a string, a list or another dataclass.
"""

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
    return {field.name: plain(getattr(config, field.name)) for field in fields(config)}


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return value


def from_dict(kind: type[T], values: Any, source: object) -> T:
    """Build ``kind`` from JSON values, checking every name and type.

    Raises
    ------
    BadInput: an unknown key (naming the nearest), a wrong type, a value out of range; ``source``
        is named as the place.
    """
    if not isinstance(values, Mapping):
        raise BadInput(source, f"holds {type(values).__name__}, not options", "give an object {}")
    hints = typing.get_type_hints(kind)
    known = [field.name for field in fields(kind) if field.init]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            mend = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise BadInput(source, f"unknown key {name!r}", mend)
    try:
        return kind(**{n: convert(hints[n], v, f"{source}: {n}") for n, v in values.items()})
    except BadInput:
        raise
    except (TypeError, ValueError) as error:
        raise BadInput(source, str(error), "correct the file") from error


def convert(hint: Any, value: Any, place: str) -> Any:
    """``value`` as the type ``hint``, or BadInput."""
    origin = get_origin(hint)
    if origin is Literal:
        if value in get_args(hint):
            return value
    elif origin in (typing.Union, types.UnionType):
        for option in get_args(hint):
            if option is type(None) and value is None:
                return None
            if option is not type(None) and value is not None:
                return convert(option, value, place)
    elif origin is tuple:
        if isinstance(value, list):
            return tuple(convert(get_args(hint)[0], item, place) for item in value)
    elif is_dataclass(hint):
        return from_dict(typing.cast(type[Any], hint), value, place)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif hint in (int, str, bool) and type(value) is hint:
        return value
    wanted = getattr(hint, "__name__", str(hint))
    raise BadInput(place, f"{value!r} is not of type {wanted}", "correct the file")
