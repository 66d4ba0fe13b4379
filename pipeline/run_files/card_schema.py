"""The one schema of a model card: what ``model/card.json`` must contain before any of it is used.

Sizes are limited too, so that a card costs no more than a real one. Keys that are not listed here
are ignored; ``model`` is checked further by ``models.build.ModelConfig``.
"""

from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from uncus.data.text import printable

Schema = dict[str, Any]

LONGEST = 200
"""Characters of a name, and of an error's text."""
MAX_MEMBERS, MAX_SCANS = 1000, 10**6
MAX_BYTES = 1 << 26
"""Size of a card's file."""


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
FILE: Schema = {"type": "string", "pattern": r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.safetensors\Z"}
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
STEP = record(
    {"grid": GRID, "percentiles": row(number(0, 100), number(0, 100))},
    step=NAME,
)
TARGET = record(
    columns={**array(NAME, 1000), "uniqueItems": True},
    classes=mapping(array(NAME, 10_000)),
    regression=BOOLEAN,
)
STANDARDIZATION = record(
    mean=array(VALUE, 1000), std=array({**number(0, 1e30), "exclusiveMinimum": 0}, 1000)
)
TRAINING = record(
    {
        "voxel_hashes": {"type": "array", "maxItems": MAX_SCANS},
        "age_years": record(min=VALUE, max=VALUE),
        "sex": mapping(COUNT),
        "classes": mapping(COUNT),
    },
    subjects=COUNT,
    scans=COUNT,
    folds=COUNT,
)
CARD: Schema = {
    **record(
        {
            "covariates": mapping(record(min=VALUE, max=VALUE, mean=VALUE), 100),
            "init_from": {"anyOf": [TEXT, {"type": "null"}]},
            "pipeline": array(STEP, 100),
            "results": mapping(HASH),
        },
        schema=integer(1, 1),
        notice=TEXT,
        made=NAME,
        versions=record(uncus=NAME, torch=NAME),
        target=TARGET,
        model=record(backbone=NAME, norm=NAME),
        members=array(
            record({"sha256": HASH}, file=FILE, fold=COUNT, seed=integer(-(2**63), 2**63)),
            MAX_MEMBERS,
        ),
        flip_average=BOOLEAN,
        space={"enum": ["keep", "mni"]},
        grid=GRID,
        reference=record(
            similarity=per_scan(-1, 1),
            missing=per_scan(0, 1),
            extra=per_scan(0, 1),
            contact=row(*[number(0, 1)] * 6),
        ),
        cohort_fingerprint=TEXT,
        training=TRAINING,
    ),
    "if": {"properties": {"target": {"properties": {"regression": {"const": True}}}}},
    "then": {
        "properties": {
            "target": {"properties": {"classes": {"maxProperties": 0}}},
            "members": {"items": STANDARDIZATION},
        }
    },
    "else": {
        "properties": {
            "target": {"properties": {"columns": {"maxItems": 1}, "classes": {"minProperties": 2}}},
        }
    },
}


def fault(card: Any) -> str:
    """What is wrong with a card, in a short line; "" for a valid one."""
    try:
        error = next(Validator(CARD).iter_errors(card), None)
        if error is not None:
            where = error.json_path.removeprefix("$").removeprefix(".")
            value = repr(error.instance)
            cause = error.message.replace(value, value[:60] + "…" * (len(value) > 60))
            return printable(f"{where}: {cause}".removeprefix(": "), LONGEST)
    except RecursionError:
        return "it is nested too deeply"
    files = [member["file"] for member in card["members"]]
    if len(set(files)) < len(files):
        return "two of its members have the same file"
    columns = len(card["target"]["columns"])
    for member in card["members"] if card["target"]["regression"] else ():
        if not len(member["mean"]) == len(member["std"]) == columns:
            return f"its mean and std do not have {columns} values"
    return ""
