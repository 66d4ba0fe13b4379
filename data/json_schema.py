"""JSON Schemas for files from elsewhere: everything in a file is checked before any of it is used.

Sizes are limited too, so that a file costs no more than a real one. Keys that a schema does not
list are ignored, unless it says otherwise.
"""

from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from uncus.data.text import printable

Schema = dict[str, Any]

LONGEST = 200
"""Characters of a name, and of an error's text."""
MAX_SCANS = 10**6


def numbers(
    validator: Any, limits: tuple[float, float], values: Any, schema: Schema
) -> Iterator[ValidationError]:
    """The keyword ``numbers``: a list with a value per scan, checked in a moment where long."""
    low, high = limits
    for value in values if isinstance(values, list) else ():
        if type(value) not in (int, float) or not low <= value <= high:
            cause = f"{value!r} is not a number from {low} to {high}"
            yield ValidationError(cause, instance=value)
            return


Validator = extend(Draft202012Validator, {"numbers": numbers})


def number(low: float, high: float) -> Schema:
    """A finite number; JSON's 1e999 is infinite, and no number here is."""
    return {"type": "number", "minimum": low, "maximum": high}


def integer(low: int, high: int) -> Schema:
    """An integer."""
    return {"type": "integer", "minimum": low, "maximum": high}


def array(items: Schema, most: int, least: int = 1) -> Schema:
    """A list."""
    return {"type": "array", "minItems": least, "maxItems": most, "items": items}


def per_scan(low: float, high: float) -> Schema:
    """A list with a number for each training scan."""
    return {"type": "array", "minItems": 1, "maxItems": MAX_SCANS, "numbers": (low, high)}


def row(*items: Schema) -> Schema:
    """A list with a schema for each item."""
    size = len(items)
    return {"type": "array", "prefixItems": list(items), "minItems": size, "maxItems": size}


def record(optional: Schema | None = None, /, **required: Schema) -> Schema:
    """An object with these keys, and perhaps others."""
    properties = required | (optional or {})
    return {"type": "object", "required": list(required), "properties": properties}


def mapping(values: Schema, most: int = 1000) -> Schema:
    """An object with any names as keys."""
    return {
        "type": "object",
        "propertyNames": LABEL,
        "additionalProperties": values,
        "maxProperties": most,
    }


# Python's patterns: \Z, since $ also matches before a line break. No control characters, which a
# terminal would obey, and no halves of surrogate pairs, which nothing can write.
TEXT: Schema = {"type": "string", "pattern": r"\A[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,10000}\Z"}
LABEL: Schema = {**TEXT, "maxLength": LONGEST}
NAME: Schema = {**LABEL, "minLength": 1}
HASH: Schema = {"type": "string", "pattern": r"\A[0-9a-f]{64}\Z"}
BOOLEAN: Schema = {"type": "boolean"}
COUNT = integer(0, 10**9)
VALUE = number(-1e30, 1e30)
ZERO: Schema = {"const": 0}
SPACING, ORIGIN = number(1e-3, 1e3), number(-1e5, 1e5)  # mm

GRID = record(
    shape=row(*[integer(1, 4096)] * 3),
    affine=row(
        row(SPACING, ZERO, ZERO, ORIGIN),
        row(ZERO, SPACING, ZERO, ORIGIN),
        row(ZERO, ZERO, SPACING, ORIGIN),
        row(ZERO, ZERO, ZERO, {"const": 1}),
    ),
)


def fault(value: Any, schema: Schema) -> str:
    """What is wrong with a JSON value, in a short line; "" for a valid one."""
    try:
        error = next(Validator(schema).iter_errors(value), None)
    except RecursionError:
        return "it is nested too deeply"
    if error is None:
        return ""
    where = error.json_path.removeprefix("$").removeprefix(".")
    wrong = repr(error.instance)
    cause = error.message.replace(wrong, wrong[:60] + "…" * (len(wrong) > 60))
    return printable(f"{where}: {cause}".removeprefix(": "), LONGEST)
