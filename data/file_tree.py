"""List the files below a folder, with a word on what is left out: hidden files, broken links, our
own results. All readers of scans use it, so that they agree."""

import os
import re
import stat
from collections.abc import Collection, Iterator
from fnmatch import filter as matching
from pathlib import Path

from uncus.data.text import natural_text, shorten

# Folders of macOS, Windows, Linux and of network disks (Synology, QNAP).
SYSTEM = frozenset({"__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found"}) | {
    "@eaDir",
    "@Recycle",
    "@Recently-Snapshot",
    "#recycle",
    "#snapshot",
}
OUTPUTS = ("prediction.json", "saliency*.png")
IMAGE = re.compile(r".+\.(nii|img|mgz|mgh|dcm|ima|dicom|zip)(\.gz)?", re.IGNORECASE)

Ignored = dict[str, list[str]]  # reason -> names of files and folders
HIDDEN, OURS = "hidden files, ignored", "results of uncus, ignored"
BROKEN = "links to files that are missing, ignored (datalad get fetches those of a datalad dataset)"
LOOP, UNREADABLE = "links to a folder above them, ignored", "cannot be read, ignored"


def list_files(root: Path, ignored: Ignored) -> list[Path]:
    """The files below ``root`` in natural order; links are followed, to files and to folders.

    What is left out is added to ``ignored``, but for hidden files that are no images.
    """
    files = walk(root, (), ignored)
    return sorted(files, key=lambda path: natural_text(path.as_posix()))


def normal(path: Path) -> Path:
    """The absolute path without ``..``; links are kept, as git-annex's lead out of a tree."""
    return Path(os.path.normpath(path.absolute()))


def walk(folder: Path, above: tuple[tuple[int, int], ...], ignored: Ignored) -> Iterator[Path]:
    """The files below a folder; ``above`` identifies the folders that it was reached by."""
    try:
        here = folder.stat()
        paths = sorted(folder.iterdir())
    except OSError:
        ignored.setdefault(UNREADABLE, []).append(folder.name)
        return
    key = here.st_dev, here.st_ino
    if key in above or (above and is_output([path.name for path in paths])):
        ignored.setdefault(LOOP if key in above else OURS, []).append(folder.name)
        return
    for path in paths:
        if is_hidden(path.name):
            if IMAGE.fullmatch(path.name):
                ignored.setdefault(HIDDEN, []).append(path.name)
            continue
        try:
            mode = path.stat().st_mode
        except OSError:
            reason = BROKEN if path.is_symlink() else UNREADABLE
            ignored.setdefault(reason, []).append(path.name)
            continue
        if stat.S_ISDIR(mode):
            yield from walk(path, (*above, key), ignored)
        elif stat.S_ISREG(mode):
            yield path


def is_hidden(name: str) -> bool:
    """Whether a file or folder is the system's: .git, ._scan.nii.gz, .DS_Store, @eaDir."""
    return name.startswith(".") or name in SYSTEM


def is_prepared(names: Collection[str]) -> bool:
    """Whether a folder with these files is a prepared cohort, finished or not."""
    return "volumes.npy" in names or ".measures" in names


def is_output(names: Collection[str]) -> bool:
    """Whether a folder with these files is a prepared cohort, finished or not, or a prediction."""
    if is_prepared(names) or any(matching(names, pattern) for pattern in OUTPUTS):
        return True
    return ".lock" in names and "participants.tsv" not in names


def ignored_warnings(ignored: Ignored) -> list[str]:
    """A warning per reason."""
    return [f"{reason}: {shorten(names, 5)}" for reason, names in ignored.items()]


def is_pointer(head: bytes) -> bool:
    """Whether a file stands for one that git-annex or Git LFS has not fetched, by its start."""
    return head.startswith(b"version https://git-lfs") or b"annex/objects/" in head[:200]
