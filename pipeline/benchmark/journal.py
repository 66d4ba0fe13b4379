"""What a benchmark has measured so far, so that one that was cut off goes on behind it."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from uncus.data.files import write_text

NAME = "speed.partial.jsonl"


class Journal:
    """Measured cases of one part, a line each in a folder that the parts share.

    Only lines with the same ``facts`` (device, kernels' settings, command, versions) count. A line
    that was cut in the middle is none.

    Parameters
    ----------
    folder: where ``speed.partial.jsonl`` lies; None keeps nothing.
    facts: what a case was measured with.
    """

    def __init__(self, folder: Path | None, facts: Mapping[str, Any]) -> None:
        self.path = None if folder is None else folder / NAME
        self.facts = dict(facts)
        mine = [entry for entry in self.entries() if entry["facts"] == self.facts]
        self.rows = {key(entry["case"]): entry["row"] for entry in mine}

    def entries(self) -> list[dict[str, Any]]:
        """What all parts have kept; a line that was cut off is taken away for good."""
        if self.path is None or not self.path.exists():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            with suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        self.write(found)
        return found

    def write(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Leave nothing but ``entries``."""
        assert self.path is not None
        write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in entries))

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

    def discard(self) -> None:
        """Forget this part's lines: they have gone into the results. The others stay."""
        others = [entry for entry in self.entries() if entry["facts"] != self.facts]
        if self.path is None:
            return
        if others:
            self.write(others)
        else:
            self.path.unlink(missing_ok=True)


def key(case: Mapping[str, Any]) -> str:
    """A case as text that is the same whatever the order of its entries."""
    return json.dumps(case, sort_keys=True)
