"""Every row of docs/bad_input.md and docs/results/field.md names tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
PAGE = (DOCS / "bad_input.md").read_text(encoding="utf-8")
FIELD = (DOCS / "results" / "field.md").read_text(encoding="utf-8")
ROWS = [line for line in (PAGE + FIELD).splitlines() if line.startswith("| ") and "test_" in line]


@cache
def names_in(name: str) -> tuple[frozenset[str], frozenset[str]]:
    """The functions of a test file, and its string constants, which may name a case."""
    tree = ast.parse((TESTS / name).read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    functions = {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
    texts = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return frozenset(functions), frozenset(texts)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split(" | ")[0].strip("| "))
def test_every_row_names_existing_tests(row: str) -> None:
    named = re.findall(r"`([\w/]*test_\w+\.py)::(test_\w+)(?:\[([^\]]+)\])?`", row)
    assert named and len(named) == row.count("::")
    for file, test, case in named:
        functions, texts = names_in(file)
        assert test in functions, f"{file} has no {test}"
        assert not case or case in texts, f"{file} has no case {case!r}"


def test_both_formats_are_covered() -> None:
    assert len(ROWS) > 45 and "## NIfTI" in PAGE and "## DICOM" in PAGE
    functions, _ = names_in("data/imageio/test_volume.py")
    assert "test_rejects_a_constant_image" in functions and "test_nothing" not in functions
