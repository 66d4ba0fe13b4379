"""Fields of scans from a table of their own, whatever the source."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from uncus.data.cohorts.bids_names import join
from uncus.data.cohorts.participants import (
    SESSION_COLUMNS,
    SUBJECT_COLUMNS,
    Rows,
    participants_table,
    relabelled,
    replaced,
)
from uncus.data.cohorts.scans import Cohort, Scan
from uncus.data.errors import BadInput
from uncus.data.text import shorten


def add_labels(cohort: Cohort, table: Path) -> Cohort:
    """Add the columns of ``table`` to the scans, by participant and, if it has it, session.

    Its cells replace those of the source, unless they are missing. A row without a session is for
    all scans of the participant; a row with one, also for an only scan without.

    Raises
    ------
    BadInput: a table without a column of participants, with a row twice, or with no row of a scan.
    """
    keys = [(scan.subject, scan.session) for scan in cohort.scans]
    warnings = list(cohort.warnings)
    rows = participants_table(table, SUBJECT_COLUMNS, SESSION_COLUMNS)
    rows = relabelled(table.name, rows, keys, warnings)
    differing = Counter[str]()
    scans, used = [], set()
    for scan in cohort.scans:
        own = keys_of(rows, scan)
        fields = scan.fields
        for key in own:
            fields = replaced(fields, rows[key], differing)
        used |= set(own)
        scans.append(replace(scan, fields=fields))
    if not used:
        raise BadInput(
            table,
            f"none of its rows ({shorten([join(*key) for key in rows])}) is of one of the scans "
            f"({shorten([scan.name for scan in scans])})",
            "give participants and sessions the same names",
        )
    absent = [scan.name for scan in scans if not keys_of(rows, scan)]
    unused = [join(*key) for key in rows if key not in used]
    warnings += [f"{table.name}: no row for {shorten(absent)}"] if absent else []
    warnings += [f"{table.name}: no scan for {shorten(unused)}"] if unused else []
    warnings += [
        f"{name}: {table.name} differs from the source for {count} scans; {table.name} is used"
        for name, count in differing.items()
    ]
    return replace(cohort, scans=tuple(scans), warnings=tuple(warnings))


def keys_of(rows: Rows, scan: Scan) -> list[tuple[str, str]]:
    """The rows of a scan: that of its participant, then that of its session."""
    keys = dict.fromkeys([(scan.subject, ""), (scan.subject, scan.session)])
    found = [key for key in keys if key in rows]
    if not found and not scan.session:
        visits = [key for key in rows if key[0] == scan.subject]
        return visits if len(visits) == 1 else []
    return found
