"""Tables with a row per participant or session, joined with scans by their ids."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from uncus.data.cohorts.bids_names import (
    Key,
    join,
    last_word,
    number_alone,
    pair_labels,
    parts,
    raise_duplicate,
    visit,
    without_letters,
)
from uncus.data.errors import BadInput
from uncus.data.tables import find_column, need_column, read_table, same_value
from uncus.data.text import shorten

SUBJECT_COLUMNS = ("participant_id", "subject", "subject_id", "participant", "sub", "ptid")
SESSION_COLUMNS = ("session_id", "session", "ses")

Rows = dict[Key, dict[str, str]]  # the cells of each subject and session, by column


def participants_table(
    path: Path,
    subjects: Iterable[str] = ("participant_id",),
    visits: Iterable[str] = ("session_id",),
) -> Rows:
    """The rows of ``participants.tsv`` by subject and session ("" if it has no session_id).

    ``subjects`` and ``visits`` are the names that their columns may have.
    """
    frame = read_table(path)
    who, when = find_column(frame, subjects), find_column(frame, visits)
    if who is None:
        need_column(frame, "participant_id", path)
        raise AssertionError
    first: dict[Key, int] = {}
    participants: Rows = {}
    for index, row in enumerate(frame.to_dict("records")):
        subject = row[who].removeprefix("sub-")
        key = subject, row[when].removeprefix("ses-") if when else ""
        if not subject:
            line = frame.attrs["lines"][index]
            raise BadInput(path, f"line {line} has no {who}", "add it")
        if key in first:
            raise_duplicate(path, frame, key, first[key], index)
        first[key] = index
        skip = {who, when, "filename"}
        participants[key] = {str(name): cell for name, cell in row.items() if name not in skip}
    return participants


def sessions_table(root: Path, subject: str) -> list[tuple[Key, dict[str, str]]]:
    """The rows of ``sub-S/sub-S_sessions.tsv``; empty if there is no such file."""
    path = root / f"sub-{subject}" / f"sub-{subject}_sessions.tsv"
    if not path.is_file():
        return []
    frame = read_table(path)
    frame = frame.rename(columns={find_column(frame, ["session_id"]): "session_id"})
    need_column(frame, "session_id", path)
    rows: dict[Key, int] = {}
    for index, session in enumerate(frame["session_id"]):
        key = subject, session.removeprefix("ses-")
        if key in rows:
            raise_duplicate(path, frame, key, rows[key], index)
        rows[key] = index
    fields = frame.drop(columns=["session_id", "participant_id"], errors="ignore")
    records = fields.to_dict("records")
    return [(key, {str(k): v for k, v in records[i].items()}) for key, i in rows.items()]


def fields_of(participants: Rows, subject: str, session: str) -> dict[str, str]:
    """The fields of a scan: those of its subject, overridden by those of its session."""
    whole, own = (participants.get((subject, label), {}) for label in ("", session))
    return replaced(whole, own, Counter())


def relabelled(name: str, rows: Rows, keys: Collection[Key], warnings: list[str]) -> Rows:
    """The rows under the labels of the scans, where the table ``name`` spells them otherwise.

    1 and ses-01 are the same where no other label of the subject could be meant, likewise m6 and
    ses-M006; a warning tells of it.
    """
    given, wanted = sessions_of(rows), sessions_of(keys)
    # ADNI002S0295 is 002_S_0295, and AIBL12 is 12, where all subjects begin so.
    prefixes = {parts(label)[:1] for label in wanted}
    forms = [parts, without_letters] if len(prefixes) == 1 else [parts]
    subjects = pair_labels(given.keys(), wanted.keys(), forms)
    pairs: dict[Key, Key] = {}
    for subject, labels in given.items():
        found = subjects.get(subject, subject)
        visits = wanted.get(found, set()) - {""}
        same = pair_labels(labels - {""}, visits, [parts, visit, number_alone, last_word])
        pairs |= {(subject, label): (found, same.get(label, label)) for label in labels}
    other = [f"{join(*key)} as {join(*pairs[key])}" for key in rows if key != pairs[key]]
    if other:
        warnings.append(f"{name}: reads {shorten(other)}")
    return {pairs[key]: row for key, row in rows.items()}


def sessions_of(keys: Iterable[Key]) -> dict[str, set[str]]:
    """Subject -> its sessions ("" for none)."""
    sessions: dict[str, set[str]] = {}
    for subject, session in keys:
        sessions.setdefault(subject, set()).add(session)
    return sessions


def check_rows(
    table: Path, participants: Rows, keys: Collection[Key], warnings: list[str]
) -> dict[Key, None]:
    """The rows of participants without an image; warn of images without a row.

    Parameters
    ----------
    keys: subject and session of every image.
    """
    subjects = {subject for subject, _ in keys}
    unlisted = [join(*k) for k in keys if k not in participants and (k[0], "") not in participants]
    if unlisted:
        warnings.append(f"{table.name}: no row for {shorten(unlisted)}")
    return {k: None for k in participants if (k not in keys if k[1] else k[0] not in subjects)}


def unlisted_sessions(sessions: Rows, keys: Collection[Key]) -> list[str]:
    """A warning of scans that have no row in their subject's ``sessions.tsv``."""
    listed = {subject for subject, _ in sessions}
    absent = [join(*key) for key in keys if key[0] in listed and key not in sessions]
    return [f"sessions.tsv: no row for {shorten(absent)}"] if absent else []


def replaced(
    fields: Mapping[str, str], cells: Mapping[str, str], differing: Counter[str]
) -> dict[str, str]:
    """``fields`` with those of ``cells`` that are not missing; counts the columns that differ."""
    for name, cell in cells.items():
        if cell and fields.get(name) and not same_value(cell, fields[name]):
            differing[name] += 1
    return {**fields, **{name: cell or fields.get(name, "") for name, cell in cells.items()}}
