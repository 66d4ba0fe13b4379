"""Schemas of files from elsewhere name the first fault by its place, in a short line."""

from typing import Any

import pytest

from uncus.data.json_schema import GRID, HASH, array, fault, integer, mapping, per_scan, record

SCHEMA = record({"more": HASH}, count=integer(0, 9), scans=per_scan(0, 1), grid=GRID)
VALID = {
    "count": 3,
    "scans": [0, 0.5, 1],
    "grid": {
        "shape": [1, 2, 3],
        "affine": [[2, 0, 0, -9], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]],
    },
    "ignored": None,
}


@pytest.mark.parametrize(
    ("change", "start"),
    [
        ({}, ""),
        ({"count": 10}, "count: 10 is greater than"),
        ({"count": "3"}, "count: '3' is not of type"),
        ({"scans": [0, True]}, "scans: True is not a number from 0 to 1"),
        ({"scans": [0, float("inf")]}, "scans: inf is not"),
        ({"more": "x" * 9999}, "more: 'xxx"),
        ({"grid": []}, "grid: [] is not of type"),
    ],
)
def test_a_fault_is_named_by_its_place(change: dict[str, Any], start: str) -> None:
    found = fault({**VALID, **change}, SCHEMA)
    assert found.startswith(start) and bool(found) == bool(change) and len(found) <= 200


def test_sizes_and_keys_are_limited() -> None:
    assert fault([1] * 3, array(integer(0, 1), 2)) and fault({"\x1b": 1}, mapping(integer(0, 1)))
