"""The one schema of a model card: what ``model/card.json`` must contain before any of it is used.

Sizes are limited too, so that a card costs no more than a real one. Keys that are not listed here
are ignored; ``model`` is checked further by ``models.build.ModelConfig``.
"""

from typing import Any

from uncus.data.json_schema import (
    BOOLEAN,
    COUNT,
    GRID,
    HASH,
    MAX_SCANS,
    NAME,
    TEXT,
    VALUE,
    Schema,
    array,
    integer,
    mapping,
    number,
    per_scan,
    record,
    row,
)
from uncus.data.json_schema import fault as schema_fault
from uncus.pipeline.run_files.certificate import CERTIFICATE
from uncus.pipeline.trust.conformal import LEVELS
from uncus.pipeline.trust.domain import PARTS

MAX_MEMBERS = 1000
MAX_BYTES = 1 << 24
"""Size of a card's file."""
FILE: Schema = {"type": "string", "pattern": r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.safetensors\Z"}
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
AGES = record(min=VALUE, max=VALUE)
TRAINING = record(
    {
        "voxel_hashes": {"type": "array", "maxItems": MAX_SCANS},
        "age_years": AGES,
        "sex": mapping(COUNT),
        "classes": mapping(COUNT),
        "adversarial": number(0, 1),
        "started_on_phantoms": BOOLEAN,
    },
    subjects=COUNT,
    scans=COUNT,
    folds=COUNT,
)
CALIBRATION = record(
    slope=mapping(number(0, 1e6)),
    offset=mapping(VALUE),
    low=mapping(VALUE),
    high=mapping(VALUE),
    prevalence=mapping({**number(0, 1), "exclusiveMinimum": 0}),
    scans=COUNT,
)
CONFORMAL = record(
    levels={"const": list(LEVELS)},
    thresholds=mapping(
        {**array({"anyOf": [VALUE, {"type": "null"}]}, len(LEVELS)), "minItems": len(LEVELS)}
    ),
    scans=mapping(COUNT),
)
BRAIN_AGE = record(
    {"youngest": VALUE, "oldest": VALUE},
    slope=VALUE,
    intercept=VALUE,
    error=number(0, 1e6),
    scans=COUNT,
)
ADAPTED = record(
    {
        "chosen_by": TEXT,
        "scores": mapping(VALUE),
        "seed": COUNT,
        "synthetic": BOOLEAN,
        "source": record(
            {
                "run": NAME,
                "cohort": NAME,
                "fingerprint": TEXT,
                "subjects": COUNT,
                "scans": COUNT,
                "classes": mapping(COUNT),
                "age_years": AGES,
                "synthetic": BOOLEAN,
            }
        ),
    },
    run=NAME,
    card_sha256=HASH,
    cohort=NAME,
    method=NAME,
    labels=COUNT,
    subjects=COUNT,
    summary=TEXT,
)
"""Of a run that was adapted to a new site; the source is what was trained on before."""
DOMAIN = {
    **record(
        {
            "synthetic": BOOLEAN,
            "limits": record(**dict.fromkeys(PARTS, number(1e-6, 1e6))),
            "tested": COUNT,
            "false_alarms": COUNT,
            "slab": BOOLEAN,
        },
        scans=COUNT,
        scanner=mapping(array(NAME, 1000)),
    ),
    "dependentRequired": {"limits": ["tested"]},
}
CARD: Schema = {
    **record(
        {
            "covariates": mapping(
                record({"tie": record(warning=TEXT)}, min=VALUE, max=VALUE, mean=VALUE), 100
            ),
            "domain": DOMAIN,
            "init_from": {"anyOf": [TEXT, {"type": "null"}]},
            "certificate": CERTIFICATE,
            "pipeline": array(STEP, 100),
            "results": mapping(HASH),
            "calibration": CALIBRATION,
            "not_calibrated": TEXT,
            "conformal": CONFORMAL,
            "brain_age": BRAIN_AGE,
            "adapted": ADAPTED,
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
    "dependentRequired": {"calibration": ["conformal"]},
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
    if wrong := schema_fault(card, CARD):
        return wrong
    files = [member["file"] for member in card["members"]]
    if len(set(files)) < len(files):
        return "two of its members have the same file"
    columns = len(card["target"]["columns"])
    for member in card["members"] if card["target"]["regression"] else ():
        if not len(member["mean"]) == len(member["std"]) == columns:
            return f"its mean and std do not have {columns} values"
    return ""
