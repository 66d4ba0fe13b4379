"""What a benchmark has measured so far, so that one that was cut off goes on behind it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.files import write_text

NAME = "speed.partial.jsonl"


class Journal:
    """Measured cases of one part, a line each in a folder that the parts share.

    Only lines with the same ``facts`` (part, device, versions, rounds) count. A line that was cut
    in the middle is none.

    Parameters
    ----------
    folder: where ``speed.partial.jsonl`` lies; None keeps nothing.
    facts: what a case was measured with.
    """

    def __init__(self, folder: Path | None, facts: Mapping[str, Any]) -> None:
        self.path = None if folder is None else folder / NAME
        self.facts = dict(facts)
        self.rows: dict[str, dict[str, Any]] = {}
        if self.path is None or not self.path.exists():
            return
        whole = []
        for line in self.path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            whole.append(line)
            if entry["facts"] == self.facts:
                self.rows[key(entry["case"])] = entry["row"]
        write_text(self.path, "".join(f"{line}\n" for line in whole))

    def row(self, case: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was measured for ``case``, now or before."""
        return self.rows.get(key(case))

    def add(self, case: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        """Keep ``row`` as what was measured for ``case``; on the disk when this returns."""
        self.rows[key(case)] = dict(row)
        if self.path is None:
            return
        with self.path.open("a") as file:
            file.write(json.dumps({"facts": self.facts, "case": case, "row": row}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def key(case: Mapping[str, Any]) -> str:
    """A case as text that is the same whatever the order of its entries."""
    return json.dumps(case, sort_keys=True)


def discard(folder: Path) -> None:
    """Forget what was measured: it has gone into the results."""
    (folder / NAME).unlink(missing_ok=True)
