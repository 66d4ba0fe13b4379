"""Names and files that every reader checks in the same way: BIDS entities, missing images."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from uncus.data.errors import BadInput
from uncus.data.text import natural_text, shorten

IMAGES = (".nii", ".nii.gz", ".img", ".mgz", ".mgh")

Key = tuple[str, str]  # subject, session ("" stands for all of the subject's sessions)


def refuse_duplicate(path: Path, frame: pd.DataFrame, key: Key, first: int, again: int) -> None:
    """Two rows of one scan: say whether they agree, and where not.

    Raises
    ------
    BadInput: always.
    """
    lines = frame.attrs["lines"]
    one, two = frame.iloc[first], frame.iloc[again]
    differing = [
        f"{name} is {one[name] or 'missing'!r} and {two[name] or 'missing'!r}"
        for name in frame.columns
        if one[name] != two[name]
    ]
    cause = f"lines {lines[first]} and {lines[again]} are both {join(*key)}"
    if differing:
        raise BadInput(
            path,
            f"{cause} and conflict: {', '.join(differing[:4])}",
            "keep one, or give each its own session_id",
        )
    raise BadInput(path, f"{cause}: a duplicate row", "keep one")


def check_files(source: Path, paths: Iterable[Path], root: Path | None = None) -> None:
    """Refuse images that are missing, empty or outside the root, all listed at once.

    Raises
    ------
    BadInput: some are.
    """
    root = root or source
    paths = list(paths)
    show = {p: str(p.relative_to(root) if p.is_relative_to(root) else p.name) for p in paths}
    absent = [show[p] for p in paths if not p.is_file()]
    refuse_list(source, "missing images:", absent, "add them or take out their rows", limit=None)
    outside = [show[p] for p in paths if not p.resolve().is_relative_to(root.resolve())]
    refuse_list(source, "images outside the root:", outside, "copy them into it")
    empty = [show[p] for p in paths if p.stat().st_size == 0]
    refuse_list(source, "images of zero bytes:", empty, "copy them again", limit=None)


def refuse_list(
    subject: object, cause: str, names: list[str], mend: str, limit: int | None = 50
) -> None:
    """Refuse where ``names`` is not empty, with all of them in the message.

    Raises
    ------
    BadInput: ``names`` is not empty.
    """
    if names:
        raise BadInput(subject, f"{len(names)} {cause} {shorten(names, limit)}", mend)


def labelled_folders(root: Path, prefix: str) -> Iterator[Path]:
    """The folders ``prefix*`` in ``root`` in natural order."""
    folders = (p for p in root.glob(f"{prefix}*") if p.is_dir())
    yield from sorted(folders, key=natural)


def natural(path: Path) -> list[tuple[int, int | str]]:
    """A sorting key by which run-2 comes before run-10."""
    return natural_text(path.as_posix())


def entity(key: str, path: str) -> str | None:
    """The value of a BIDS entity in a path, the file's name first: ``ses-`` -> ``1``."""
    found = re.findall(rf"(?:^|[/_\\]){re.escape(key)}([^_/\\.]+)", path)
    return found[-1] if found else None


def subject_of(path: Path) -> str:
    """The subject that a path names, else the file's stem."""
    return entity("sub-", path.as_posix()) or stem(path)


def stem(path: Path) -> str:
    """The name without ``.nii.gz`` and the like."""
    return re.sub(r"(\.nii)?\.\w+$", "", path.name)


def is_image(path: Path) -> bool:
    """Whether the name is that of an image that nibabel may read."""
    return path.name.lower().endswith(IMAGES) and path.is_file()


def strip(label: str, prefix: str) -> str:
    """A label without its BIDS prefix."""
    return label.removeprefix(prefix)


def join(subject: str, session: str) -> str:
    """``sub-S`` or ``sub-S_ses-T``."""
    return f"sub-{subject}" + (f"_ses-{session}" if session else "")
