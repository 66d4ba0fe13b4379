"""Find the built-in models, and tell a run from scans on the command line."""

import difflib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from uncus.data.dicom.signature import has_signature, is_named
from uncus.data.errors import BadInput
from uncus.data.prepared_cohort import MANIFEST
from uncus.pipeline.runs import Run, find_runs

FOLDER = Path(__file__).parent
"""The built-in models, each in a folder of its name."""
DEFAULT = "dementia"
"""The one that answers where no run is named."""
MOST_FILES = 1000
"""Files of a folder that are looked at for DICOM's signature."""


def built_in() -> dict[str, Run]:
    """Name -> model, the default one first."""
    runs = {path.name: Run(path) for path in find_runs(FOLDER)}
    return dict(sorted(runs.items(), key=lambda item: (item[0] != DEFAULT, item[0])))


def default_run() -> Path | None:
    """The run that answers where none is named; None where the package has no such."""
    run = built_in().get(DEFAULT)
    return run.path if run else None


def is_built_in(path: Path) -> bool:
    """Whether a folder is that of a built-in model."""
    return path.resolve().parent == FOLDER.resolve()


def companions(run: Run) -> tuple[Run, ...]:
    """The other built-in models that a scan is placed for as for this one; none of other runs."""
    if not is_built_in(run.path):
        return ()

    def way(one: Run) -> list[object]:
        return [one.card.get(key) for key in ("space", "grid", "pipeline")]

    own = run.path.resolve().name
    return tuple(one for name, one in built_in().items() if name != own and way(one) == way(run))


def named_run(path: Path) -> Path | None:
    """The run that a path of the command line names, by its folder or as a built-in model."""
    run = Run(path)
    if run.card_path.exists() or run.config_path.exists():
        return path
    known = None if path.exists() else built_in().get(str(path))
    return known.path if known else None


def run_and_scans(first: Path | None, others: Sequence[Path] = ()) -> tuple[Path, tuple[Path, ...]]:
    """The run and the scans of ``[RUN] SCAN...``.

    The first path is the run if it is the folder of one, or names a built-in model; else all are
    scans, which the default model answers.

    Raises
    ------
    ValueError: no scan is given (BadInput: the first path is neither a run nor a scan, or there is
        no default model).
    """
    if first is None or ((run := named_run(first)) and not others):
        raise ValueError("no scan given; name one: [RUN] SCAN")
    if run:
        return run, tuple(others)
    names = " or ".join(built_in())
    if not first.exists():
        cause = "does not exist" + (
            f", and no built-in model is called so ({names})" if names else ""
        )
        raise BadInput(first, cause, suggestion(first))
    if not holds_scan(first):
        remedy = "name a folder that uncus train wrote, or a T1w volume"
        if runs := find_runs(first):
            remedy = f"name a run in it: {runs[0]}"
        raise BadInput(first, "is not a run, and contains no scan", remedy)
    if (run := default_run()) is None:
        cause = "is not a run, and this installation has no built-in model"
        raise BadInput(first, cause, "name a run first: RUN SCAN")
    return run, (first, *others)


def holds_scan(path: Path) -> bool:
    """Whether a path may be a scan: a file, a prepared cohort, a subject of FreeSurfer, DICOM."""
    if path.is_file() or (path / MANIFEST).is_file() or (path / "mri").is_dir():
        return True
    files = islice((file for file in path.rglob("*") if file.is_file()), MOST_FILES)
    return any(is_named(file) or file.suffix == ".zip" or has_signature(file) for file in files)


def suggestion(path: Path) -> str:
    """What may have been meant by a path that does not exist."""
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    known = {str(other): other for other in beside}
    close = difflib.get_close_matches(str(path), [*built_in(), *known], n=1)
    return f"did you mean {close[0]}?" if close else "check the path"
