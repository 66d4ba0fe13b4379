"""Tables on disk and their cells."""

import csv
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uncus.data.errors import BadInput
from uncus.data.tables import (
    clean,
    escape_cell,
    find_column,
    limit_warnings,
    need_column,
    read_column,
    read_number,
    read_table,
    same_value,
    text_warnings,
    to_number,
    unescape_cell,
    write_table,
)

Factory = pytest.TempPathFactory


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_bom_and_crlf_are_read(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.tsv", b"\xef\xbb\xbfid\tage\r\n1\t60\r\n\r\n2\tn/a\r\n"))
    assert list(table.columns) == ["id", "age"]
    assert table.values.tolist() == [["1", "60"], ["2", ""]]


@pytest.mark.parametrize("text", ["id,age\n1,2\n", "id;age\n1;2\n", "id\tage\n1\t2\n"])
def test_csv_may_have_commas_semicolons_and_tabs(tmp_path: Path, text: str) -> None:
    assert read_table(write(tmp_path / "a.csv", text))["age"].tolist() == ["2"]


def test_cells_are_read_unchanged(tmp_path: Path) -> None:
    cells = ["007", "0.50", "True", "1e3", "NA", "N/A", "NaN", "None"]
    table = read_table(write(tmp_path / "a.tsv", "id\n" + "\n".join(cells) + "\n"))
    assert table["id"].tolist() == ["007", "0.50", "True", "1e3", "", "", "", "None"]


def test_control_and_direction_characters_become_spaces(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.tsv", "id\tnote\n1\t\x1b[2Jred\x0bline\n\u202e2\té\n"))
    assert table.values.tolist() == [["1", "[2Jred line"], ["2", "é"]]


def test_a_header_of_many_columns_is_read_at_once(tmp_path: Path) -> None:
    names = "\t".join(f"c{number}" for number in range(30_000))
    assert read_table(write(tmp_path / "a.tsv", names + "\n")).shape == (0, 30_000)


@pytest.mark.parametrize(
    ("name", "text", "cause"),
    [
        ("a.tsv", "id,age\n1,2\n", "a .tsv file with commas"),
        ("a.tsv", "id\tage\n1,2\n", r"line 2 has 1 cells, the header 2 \(commas in a .tsv\?\)"),
        ("a.tsv", "id\tage\n1\t2\n\n3\t4\t5\n", "line 4 has 3 cells"),
        ("a.tsv", "id\tid\n1\t2\n", "column 'id' is duplicated"),
        ("a.tsv", "id\t\n1\t2\n", "column ''"),
        ("a.tsv", "", "empty"),
        ("a.tsv", "\x1b\x0b\t\n", "empty"),
        ("a.csv", '\n"",,\n""', "empty"),
        ("a.tsv", b"id\n\xff\xfe\n", "not UTF-8 at byte 3"),
        ("a.tsv", b"id\n\0\n", "not a text file"),
        ("a.csv", 'id,age\n"1,2\n', "not a valid table"),
        ("a.csv", "id\n" + "x" * 200_000, "not a valid table"),
    ],
)
def test_invalid_tables_are_rejected(
    tmp_path: Path, name: str, text: str | bytes, cause: str
) -> None:
    with pytest.raises(BadInput, match=cause):
        read_table(write(tmp_path / name, text))


def test_a_missing_table_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_table(tmp_path / "no.tsv")


@pytest.mark.parametrize("cell", ["=1+1", "+cmd", "-x", "@SUM(A1)", "'=1", "=cmd|' /C calc'!A0"])
def test_formulas_are_escaped_and_restored(cell: str) -> None:
    assert escape_cell(cell) == f"'{cell}"
    assert unescape_cell(escape_cell(cell)) == cell


def test_a_long_cell_is_escaped_at_once() -> None:
    cell = "-" + "1" * 100_000 + "x"
    assert escape_cell(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["-1.5", "+2e-3", "-inf", "sub-1", "a=b", "", "'quoted'", "5-6"])
def test_numbers_and_plain_text_are_not_escaped(cell: str) -> None:
    assert escape_cell(cell) == cell == unescape_cell(cell)


OBEYED = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
CELLS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters=OBEYED), max_size=8
)
RISKY = st.text("'=+-@1e.\" ", max_size=6)


@settings(max_examples=25, deadline=None)
@given(cells=st.lists(CELLS | RISKY, min_size=20, max_size=20))
def test_any_cell_survives_a_round_trip(cells: list[str], tmp_path_factory: Factory) -> None:
    path = tmp_path_factory.mktemp("t") / "a.tsv"
    write_table(path, pd.DataFrame({"id": range(len(cells)), "cell": cells}))
    assert read_table(path)["cell"].tolist() == [clean(cell) for cell in cells]
    with path.open(newline="", encoding="utf-8") as file:
        for _, cell in csv.reader(file, delimiter="\t"):
            assert cell[:1] not in {"=", "@"}
            assert cell[:1] not in {"+", "-"} or math.isfinite(float(cell))


def test_tables_are_written_atomically_with_missing_cells_as_n_a(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.tsv"
    write_table(path, pd.DataFrame({"=id": ["a\tb", None], "x": [0.1, float("nan")]}))
    assert path.read_text() == "'=id\tx\na b\t0.1\nn/a\tn/a\n"
    assert [p.name for p in path.parent.iterdir()] == ["a.tsv"]
    assert list(read_table(path).columns) == ["=id", "x"]


def test_a_missing_column_is_named_and_the_columns_are_listed() -> None:
    with pytest.raises(BadInput, match="no column 'cdr'; choose one of: age, sex"):
        need_column(pd.DataFrame({"age": [], "sex": []}), "cdr")


def test_cells_are_compared_as_numbers_if_both_are_numbers() -> None:
    assert same_value("0", "0.0") and same_value("1e1", "10") and same_value("a", "a")
    assert not same_value("0", "") and not same_value("1", "one") and not same_value("a", "A")
    assert to_number("1_000") is None and to_number("nan") is None and to_number("x") is None


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("89+", 89),
        ("89 +", 89),
        (">89", 89),
        (">= 90", 90),
        ("\u226589", 89),
        (">1700", 1700),
        ("<8", 8),
        ("<-1.5", -1.5),
        ("72.5", 72.5),
        ("+89", 89),
        ("90 or older", 90),
        ("90 and over", 90),
        ("over 89", 89),
        ("89plus", 89),
        ("89+ years", 89),
        ("90 years or older", 90),
    ],
)
def test_a_limit_is_read_as_its_number(cell: str, number: float) -> None:
    assert read_number(cell) == number


@pytest.mark.parametrize(
    "cell", ["", "+", ">", "89++", "<60>", "60-70", "x+", ">x", "nan+", "8_9+", "over", "or older"]
)
def test_other_text_is_no_limit(cell: str) -> None:
    assert read_number(cell) is None


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("072Y", 72),
        ("72.5y", 72.5),
        ("72 years", 72),
        ("72 yrs old", 72),
        ("72,5", 72.5),
        ("-0,125", -0.125),
        ("1400,125", 1400.125),
        ("1,234", None),  # 1.234 or 1234
        ("1,2,3", None),
        ("Y", None),
        ("7 yellow", None),
        ("072M", None),
    ],
)
def test_years_and_decimal_commas(cell: str, number: float | None) -> None:
    assert read_number(cell) == number


def test_columns_that_are_written_otherwise_are_told_of_in_one_line() -> None:
    ages = [f"{60 + k},5" for k in range(9)]
    listed = "age 60,5 is read as 60.5, 61,5 is read as 61.5, 62,5 is read as 62.5 and 6 more"
    assert limit_warnings({"age": ages}) == [listed]


@pytest.mark.parametrize(
    "text",
    [
        "id,age,\n1,60,\n2,61,\n",
        "id,age,,\n1,60\n2,61,,\n,,,\n",
        "id,age\n1,60,\n2,61\n",
        ",id,age\n0,1,60\n1,2,61\n",
        "sep=;\r\nid;age\r\n1;60\r\n2;61\r\n",
    ],
)
def test_what_spreadsheets_and_pandas_add_is_dropped(tmp_path: Path, text: str) -> None:
    table = read_table(write(tmp_path / "a.csv", text))
    assert list(table.columns) == ["id", "age"]
    assert table.values.tolist() == [["1", "60"], ["2", "61"]]


@pytest.mark.parametrize("text", ["id,age,\n1,60,x\n", ",id\na,1\n", "id,,age\n1,,60\n"])
def test_a_column_with_cells_needs_a_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match="has no name"):
        read_table(write(tmp_path / "a.csv", text))


def test_the_missing_values_of_other_programs() -> None:
    assert [clean(cell) for cell in ["#N/A", "<NA>", "NULL", ".", "None", "-"]] == [
        *[""] * 4,
        "None",
        "-",
    ]


def test_a_column_is_of_numbers_unless_most_of_its_cells_are_text() -> None:
    found = read_column(["60", "89+", "unknown", "n/a"])
    np.testing.assert_array_equal(found, [60, 89, np.nan, np.nan])
    assert read_column(["M", "F", "1", ""]) is None
    np.testing.assert_array_equal(read_column(["", "n/a"]), [np.nan, np.nan])


def test_warnings_of_a_column_name_what_was_read() -> None:
    ages = ["60", "89+", ">90", "89+", "unknown", "70", "80", "?"]
    assert limit_warnings({"age": ages, "grade": ["x", "y", "2+"]}) == [
        "age 89+ is read as 89 (2 scans)",
        "age >90 is read as 90",
    ]
    assert text_warnings("age", ages) == [
        "age has 2 cells that are not numbers, taken as missing: ?, unknown"
    ]
    assert text_warnings("sex", ["F", "M"]) == text_warnings("age", ["89+", "n/a"]) == []


def test_of_many_columns_the_first_are_listed() -> None:
    table = pd.DataFrame(columns=[f"c{k}" for k in range(65)])
    with pytest.raises(BadInput, match="c18, c19 and 45 more"):
        need_column(table, "age")


def test_a_column_is_found_in_any_case_but_its_own_name_comes_first() -> None:
    assert find_column(pd.DataFrame(columns=["AGE", "Sex", "Subject ID"]), ["age"]) == "AGE"
    assert find_column(pd.DataFrame(columns=["AGE", "age", "Age"]), ["age"]) == "age"
    assert find_column(pd.DataFrame(columns=["agent"]), ["age"]) is None
