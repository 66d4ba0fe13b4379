"""File names and checks that all cohort readers share."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import pandas as pd

from uncus.data.errors import BadInput
from uncus.data.text import natural_text, shorten

IMAGES = (".nii", ".nii.gz", ".img", ".mgz", ".mgh")

Key = tuple[str, str]  # subject, session ("" for all sessions of the subject)


def raise_duplicate(path: Path, frame: pd.DataFrame, key: Key, first: int, second: int) -> NoReturn:
    """Raise BadInput for two rows of one scan, naming the columns in which they differ."""
    lines = frame.attrs["lines"]
    one, two = frame.iloc[first], frame.iloc[second]
    differing = [
        f"{name} is {one[name] or 'missing'!r} and {two[name] or 'missing'!r}"
        for name in frame.columns
        if one[name] != two[name]
    ]
    cause = f"lines {lines[first]} and {lines[second]} are both {join(*key)}"
    if differing:
        raise BadInput(
            path,
            f"{cause} but differ: {', '.join(differing[:4])}",
            "keep one, or give each its own session_id",
        )
    raise BadInput(path, f"{cause}: a duplicate row", "keep one")


def check_files(source: Path, paths: Iterable[Path], root: Path | None = None) -> None:
    """Check that images exist, have content and are inside ``root`` (default: ``source``).

    Raises
    ------
    BadInput: some do not; all of them are listed.
    """
    root = root or source
    paths = list(paths)
    show = {p: str(p.relative_to(root) if p.is_relative_to(root) else p.name) for p in paths}
    missing = [show[p] for p in paths if not p.is_file()]
    raise_if_any(source, "missing images", missing, "add them or remove their rows", limit=None)
    outside = [show[p] for p in paths if not p.resolve().is_relative_to(root.resolve())]
    raise_if_any(source, "images outside the cohort's folder", outside, "copy them into it")
    empty = [show[p] for p in paths if p.stat().st_size == 0]
    raise_if_any(source, "images of zero bytes", empty, "copy them again", limit=None)


def raise_if_any(
    value: object, cause: str, names: list[str], remedy: str, limit: int | None = 50
) -> None:
    """Raise BadInput with ``cause`` and the names (up to ``limit``) unless ``names`` is empty."""
    if names:
        raise BadInput(value, f"{cause} ({len(names)}): {shorten(names, limit)}", remedy)


def labelled_folders(root: Path, prefix: str) -> Iterator[Path]:
    """The folders ``prefix*`` in ``root`` in natural order."""
    folders = (p for p in root.glob(f"{prefix}*") if p.is_dir())
    yield from sorted(folders, key=natural)


def natural(path: Path) -> list[tuple[int, int | str]]:
    """A sort key that puts run-2 before run-10."""
    return natural_text(path.as_posix())


def entity(key: str, path: str) -> str | None:
    """The last value of a BIDS entity in a path: ``ses-`` in ``ses-1/sub-2_ses-3_T1w`` -> ``3``."""
    values = re.findall(rf"(?:^|[/_\\]){re.escape(key)}([^_/\\.]+)", path)
    return values[-1] if values else None


def subject_from_path(path: Path) -> str:
    """The subject in a path's ``sub-`` entity, else the file's stem."""
    return entity("sub-", path.as_posix()) or stem(path)


def stem(path: Path) -> str:
    """The file's name without its extension, ``.nii.gz`` included."""
    return re.sub(r"(\.nii)?\.\w+$", "", path.name)


def is_image(path: Path) -> bool:
    """Whether the file has the extension of an image that nibabel can read."""
    return path.name.lower().endswith(IMAGES) and path.is_file()


def join(subject: str, session: str) -> str:
    """``sub-S`` or ``sub-S_ses-T``."""
    return f"sub-{subject}" + (f"_ses-{session}" if session else "")
