"""Results of a benchmark so far, from which the next call goes on."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from uncus.data.files import write_text

NAME = "speed.partial.jsonl"
Case = Mapping[str, Any]


class Entry(NamedTuple):
    """What came of one case.

    depends: what the row depends on besides the facts, such as the kernels' settings.
    seconds: how long it took.
    row: its result; None where it failed, for the reason ``why``.
    """

    case: Case
    depends: Case
    seconds: float
    row: dict[str, Any] | None = None
    why: str = ""


class Journal:
    """Measured cases of one part, one line each in a file that the parts share.

    Only lines with the same ``facts`` (device, command, versions) are used; incomplete lines are
    ignored. A row that depends on something else than now is stale: it is measured again, and
    stands until then.

    Parameters
    ----------
    folder: the folder of ``speed.partial.jsonl``; with None nothing is stored.
    facts: the conditions that all results of the part share.
    """

    def __init__(self, folder: Path | None, facts: Case) -> None:
        self.path = None if folder is None else folder / NAME
        self.facts = dict(facts)
        self.entries: list[Entry] = []
        for line in self.lines():
            if line["facts"] == self.facts:
                self.entries.append(Entry(**{n: line[n] for n in Entry._fields if n in line}))

    def lines(self) -> list[dict[str, Any]]:
        """The lines of all parts; incomplete ones are removed from the file."""
        if self.path is None or not self.path.exists():
            return []
        lines, text = [], self.path.read_text(encoding="utf-8")
        for line in text.splitlines():
            with suppress(json.JSONDecodeError):
                lines.append(json.loads(line))
        if len(lines) < len(text.splitlines()) or not text.endswith("\n"):
            self.write(lines)
        return lines

    def write(self, lines: Iterable[Case]) -> None:
        """Replace the file's content by ``lines``."""
        assert self.path is not None
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))

    def row(self, case: Case, depends: Case) -> dict[str, Any] | None:
        """The result of ``case``; None if it has not been measured, or is stale."""
        same = [e.row for e in self.of(case) if e.row is not None and e.depends == depends]
        return same[-1] if same else None

    def last_row(self, case: Case) -> dict[str, Any] | None:
        """The newest result of ``case``, which may be stale."""
        rows = [entry.row for entry in self.of(case) if entry.row is not None]
        return rows[-1] if rows else None

    def failure(self, case: Case, depends: Case) -> str:
        """Why ``case`` failed when it was last tried; "" if it was not, or did not fail."""
        tried = [entry for entry in self.of(case) if entry.depends == depends]
        return tried[-1].why if tried else ""

    def of(self, case: Case) -> list[Entry]:
        """The entries of ``case``, oldest first."""
        return [entry for entry in self.entries if entry.case == case]

    def seconds(self, case: Case) -> float:
        """How long ``case`` will take: as the slowest of the cases most like it; 0 if none is."""

        def alike(entry: Entry) -> int:
            return sum(entry.case.get(name) == value for name, value in case.items())

        most = max(map(alike, self.entries), default=0)
        return max((entry.seconds for entry in self.entries if alike(entry) == most), default=0.0)

    def add(self, entry: Entry) -> None:
        """Store an entry, synced to disk."""
        line = json.dumps({"facts": self.facts, **entry._asdict()}) + "\n"
        self.entries.append(Entry(**{n: json.loads(line)[n] for n in Entry._fields}))
        if self.path is None:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def discard(self) -> None:
        """Remove this part's lines, which are in the results now; others stay."""
        others = [line for line in self.lines() if line["facts"] != self.facts]
        if self.path is None:
            return
        if others:
            self.write(others)
        else:
            self.path.unlink(missing_ok=True)
