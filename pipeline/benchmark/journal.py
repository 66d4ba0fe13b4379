"""Results of a benchmark so far, from which an interrupted one resumes."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from uncus.data.files import write_text

NAME = "speed.partial.jsonl"


class Journal:
    """Measured cases of one part, one line each in a file that the parts share.

    Only lines with the same ``facts`` (device, kernel settings, command, versions) are used;
    incomplete lines are ignored.

    Parameters
    ----------
    folder: the folder of ``speed.partial.jsonl``; with None nothing is stored.
    facts: the conditions of the measurement.
    """

    def __init__(self, folder: Path | None, facts: Mapping[str, Any]) -> None:
        self.path = None if folder is None else folder / NAME
        self.facts = dict(facts)
        own = [entry for entry in self.entries() if entry["facts"] == self.facts]
        self.rows = {key(entry["case"]): entry["row"] for entry in own}

    def entries(self) -> list[dict[str, Any]]:
        """The entries of all parts; incomplete lines are removed from the file."""
        if self.path is None or not self.path.exists():
            return []
        entries = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            with suppress(json.JSONDecodeError):
                entries.append(json.loads(line))
        self.write(entries)
        return entries

    def write(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Replace the file's content by ``entries``."""
        assert self.path is not None
        write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in entries))

    def row(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result of ``case``; None if it has not been measured."""
        return self.rows.get(key(case))

    def add(self, case: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        """Store ``row`` as the result of ``case``, synced to disk."""
        self.rows[key(case)] = dict(row)
        if self.path is None:
            return
        with self.path.open("a") as file:
            file.write(json.dumps({"facts": self.facts, "case": case, "row": row}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def discard(self) -> None:
        """Remove this part's lines, which are in the results now; others stay."""
        others = [entry for entry in self.entries() if entry["facts"] != self.facts]
        if self.path is None:
            return
        if others:
            self.write(others)
        else:
            self.path.unlink(missing_ok=True)


def key(case: Mapping[str, Any]) -> str:
    """A case as text that does not depend on the order of its entries."""
    return json.dumps(case, sort_keys=True)
