"""File names and checks that all cohort readers share."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import pandas as pd

from uncus.data.errors import BadInput
from uncus.data.file_tree import BROKEN, OURS, Ignored, is_prepared
from uncus.data.text import natural_text, shorten

IMAGES = (".nii", ".nii.gz", ".img", ".mgz", ".mgh")
EXTENSION = re.compile(r"(\.nii\.gz|\.(nii|img|hdr|mgz|mgh|zip|dcm|ima))$", re.IGNORECASE)
CONTRAST = re.compile(r"t[12]w?|t2starw|pdw?|flair|mp2?rage|unit1|f?spgr", re.IGNORECASE)
# What SPM and CAT12 write before, and FSL and others after, the name of the image they read.
PREFIX = re.compile(r"(s\d*|[amnruw]|wj_|i?y_|c[1-6]|r?p[0-3])+")
SUFFIX = re.compile(r"_(\w+_)?(brain|mask|seg|dseg|probseg|aseg|pve_\d|pveseg|mixeltype|labels?)")

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
    """Check that images exist and have content; names are shown relative to ``root``.

    Raises
    ------
    BadInput: some do not; their number and the first are given.
    """
    root = root or source
    paths = list(paths)
    show = {p: str(p.relative_to(root) if p.is_relative_to(root) else p.name) for p in paths}
    missing = [show[p] for p in paths if not p.exists()]
    raise_if_any(source, "missing images", missing, "add them or remove their rows")
    empty = [show[p] for p in paths if p.is_file() and p.stat().st_size == 0]
    raise_if_any(source, "images of zero bytes", empty, "copy them again")


def raise_if_any(value: object, cause: str, names: list[str], remedy: str) -> None:
    """Raise BadInput with ``cause``, the number and the first names unless ``names`` is empty."""
    if names:
        raise BadInput(value, f"{cause} ({len(names)}): {shorten(names)}", remedy)


def labelled_folders(root: Path, prefix: str, ignored: Ignored | None = None) -> Iterator[Path]:
    """The folders ``prefix*`` in ``root`` in natural order.

    Broken links, and prepared cohorts, go to ``ignored``.
    """
    ignored = {} if ignored is None else ignored
    for path in sorted(root.glob(f"{prefix}*"), key=natural):
        if path.is_dir() and is_prepared({inside.name for inside in path.glob("*")}):
            ignored.setdefault(OURS, []).append(path.name)
        elif path.is_dir():
            yield path
        elif path.is_symlink() and not path.exists():
            ignored.setdefault(BROKEN, []).append(path.name)


def natural(path: Path) -> list[tuple[int, int | str]]:
    """A sort key that puts run-2 before run-10."""
    return natural_text(path.as_posix())


def entity(key: str, path: str) -> str | None:
    """The last value of a BIDS entity in a path: ``ses-`` in ``ses-1/sub-2_ses-3_T1w`` -> ``3``.

    The whole value counts, with its ``_`` and ``.``: ``sub-002_S_0295_ses-1_T1w`` is subject
    002_S_0295. It ends at the next entity, at the name of a contrast, or, if a file's name has
    neither, before its last words: ``sub-01_brain.nii``.
    """
    return next(reversed(entities(key, path)), None)


def entities(key: str, path: str) -> list[str]:
    """Every value of a BIDS entity in a path, see ``entity``."""
    values = []
    for part in re.split(r"[/\\]", path):
        name = EXTENSION.sub("", part)
        tokens = name.split("_")
        starts = [k for k, token in enumerate(tokens) if re.fullmatch(r"[A-Za-z]+-.+", token)]
        for start, stop in pairwise([*starts, len(tokens)]):
            if not tokens[start].startswith(key):
                continue
            value = [tokens[start].removeprefix(key), *tokens[start + 1 : stop]]
            contrast = next((k for k, v in enumerate(value) if k and CONTRAST.fullmatch(v)), None)
            if contrast:
                value = value[:contrast]
            elif stop == len(tokens) and is_named_image(part):
                while len(value) > 1 and re.fullmatch(r"[A-Za-z]\w+", value[-1]):
                    value.pop()
            values.append("_".join(value))
    return values


def parts(label: str) -> tuple[str | int, ...]:
    """A label without padding, case, separators and a ``.0``: ``ses-M006`` -> (m, 6)."""
    bare = re.sub(r"^(.*_)?(sub|ses)-|\.0$", "", label.lower())
    return tuple(int(p) if p.isdecimal() else p for p in re.findall(r"\d+|[^\W\d_]+", bare))


def number_alone(label: str) -> tuple[str | int, ...]:
    """The parts of a label, of a visit's number without the letters before it: ``M006`` -> (6,)."""
    found = parts(label)
    return found[1:] if len(found) == 2 and isinstance(found[1], int) else found


def without_letters(label: str) -> tuple[str | int, ...]:
    """The parts of a label after the letters that it begins with: ``AIBL12`` -> (12,)."""
    found = parts(label)
    return found[1:] if len(found) > 1 and isinstance(found[0], str) else found


def visit(label: str) -> tuple[str | int, ...]:
    """The parts of a visit's label in ADNI's words: ``bl`` -> (m, 0), ``Month 12`` -> (m, 12)."""
    return parts(re.sub(r"^(bl|baseline)$", "m0", re.sub(r"^months?", "m", label.lower())))


def last_word(label: str) -> tuple[str | int, ...]:
    """The parts of a label's last word: ``OAS30001_MR_d0129`` -> (d, 129)."""
    return parts(label.rpartition("_")[2])


def pair_labels(
    given: Collection[str],
    wanted: Collection[str],
    forms: Sequence[Callable[[str], tuple[str | int, ...]]],
) -> dict[str, str]:
    """Each label in ``given`` -> the one in ``wanted`` that is equal, or is so in one of ``forms``.

    Not where several labels on a side have the same form, or both would have to lose some of it.
    """
    pairs = {label: label for label in given if label in wanted}
    for form in forms:
        counts = Counter(map(form, given)), Counter(map(form, wanted))
        taken = set(pairs.values())
        there = {form(label): label for label in wanted if label not in taken}
        for label in given:
            key = form(label)
            alone = key in there and counts[0][key] == counts[1][key] == 1
            if label not in pairs and alone and key in (parts(label), parts(there[key])):
                pairs[label] = there[key]
    return pairs


def subject_from_path(path: str) -> str | None:
    """The subject in a path's ``sub-`` entity; None if it has none.

    Raises
    ------
    BadInput: its folders and its name give several, such as ``sub-1/sub-2_T1w.nii``.
    """
    labels = list(dict.fromkeys(entities("sub-", path)))
    if len(labels) > 1:
        raise BadInput(
            path,
            f"its path names {len(labels)} subjects: {shorten(labels)}",
            "give them the same label, or list the scans in a table with participant_id",
        )
    return labels[0] if labels else None


def stem(path: Path) -> str:
    """The file's name without its extension, ``.nii.gz`` included."""
    return re.sub(r"(\.nii)?\.\w+$", "", path.name)


def computed_from_others(stems: Collection[str]) -> set[str]:
    """The stems that say that an image was computed from another of them: ``p0X``, ``X_brain``."""
    found = set()
    for stem in stems:
        ends = ((stem[:k], stem[k:]) for k in range(1, len(stem)))
        if any(
            (b in stems and PREFIX.fullmatch(a)) or (a in stems and SUFFIX.fullmatch(b))
            for a, b in ends
        ):
            found.add(stem)
    return found


def is_image(path: Path) -> bool:
    """Whether the file has the extension of an image that nibabel can read."""
    return is_named_image(path.name) and path.is_file()


def is_named_image(name: str) -> bool:
    """Whether a name has the extension of an image that nibabel can read."""
    return name.lower().endswith(IMAGES)


def join(subject: str, session: str) -> str:
    """``sub-S`` or ``sub-S_ses-T``."""
    return f"sub-{subject}" + (f"_ses-{session}" if session else "")


def to_label(text: str) -> str:
    """Turn text into a BIDS label; runs of other characters become ``-``."""
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.+_") or "unnamed"
