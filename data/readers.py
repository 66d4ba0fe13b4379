"""Where scans come from: ``READERS`` turns a tree, a table or a folder into a Cohort."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from data.errors import BadInput
from data.scans import Cohort, Scan, need_column, read_table

IMAGES = (".nii", ".nii.gz", ".img", ".mgz", ".mgh")
T1W = re.compile(r".+_T1w\.nii(\.gz)?")
SUBJECT_COLUMNS = ("participant_id", "subject", "subject_id", "participant", "sub")
SESSION_COLUMNS = ("session_id", "session", "ses", "visit")
PATH_COLUMNS = ("path", "filename", "file", "filepath", "file_path", "image", "image_path", "t1w")

Key = tuple[str, str]  # subject, session ("" stands for all of the subject's sessions)


def read_cohort(source: Path, reader: str = "auto") -> Cohort:
    """The scans under ``source``, by the named reader or the one that fits.

    Raises
    ------
    BadInput: an unknown reader, no such source, or one that breaks the reader's rules.
    """
    source = Path(source)
    if reader != "auto" and reader not in READERS:
        known = ", ".join(["auto", *READERS])
        raise BadInput(f"reader {reader!r}", "unknown", f"choose one of: {known}")
    if not source.exists():
        raise BadInput(source, "no such file or folder", "check the path")
    return READERS[guess_reader(source) if reader == "auto" else reader](source)


def guess_reader(source: Path) -> str:
    """The key of the reader that fits ``source``."""
    if source.is_file():
        return "table"
    if (source / "subjects").is_dir():
        return "caps"
    if (source / "participants.tsv").is_file() or any(labelled_folders(source, "sub-")):
        return "bids"
    return "folder"


def read_bids(root: Path) -> Cohort:
    """Read a BIDS tree, raw or derivative, with or without sessions.

    Images are ``sub-*/[ses-*/]anat/*_T1w.nii[.gz]`` (in a derivative, any folder below
    the session); the first of several in a session is taken, with a warning. Fields come from
    ``participants.tsv`` (a row per subject, or per scan with ``session_id``) and each subject's
    ``sessions.tsv``, whose values win.
    """
    return read_tree(root, root, "bids")


def read_caps(root: Path) -> Cohort:
    """Read a Clinica / ClinicaDL CAPS tree: ``subjects/sub-*/ses-*/t1_linear/*_T1w.nii.gz``.

    The cropped image (``desc-Crop``) is preferred. ``participants.tsv`` is optional.
    """
    subjects = root / "subjects"
    return read_tree(root, subjects if subjects.is_dir() else root, "caps")


def read_tree(root: Path, subjects: Path, layout: str) -> Cohort:
    """What ``read_bids`` and ``read_caps`` share: folders of subjects and sessions, and tables."""
    if not root.is_dir():
        raise BadInput(root, "not a folder", f"a {layout} tree is a folder of sub-* folders")
    warnings: list[str] = []
    derivative = layout == "bids" and is_derivative(root, warnings)
    images: dict[Key, Path] = {}
    fields: dict[Key, dict[str, str]] = {}
    for folder in labelled_folders(subjects, "sub-"):
        subject = strip(folder.name, "sub-")
        fields |= sessions_table(folder, subject)
        visits = [
            ("", folder),
            *((strip(f.name, "ses-"), f) for f in labelled_folders(folder, "ses-")),
        ]
        for session, visit in visits:
            found = t1w_images(visit, layout, derivative and (bool(session) or len(visits) == 1))
            if len(found) > 1 and not (layout == "caps" and is_crop(found[0])):
                warnings.append(
                    f"{visit.relative_to(root)}: {len(found)} T1w images, {found[0].name} is taken"
                )
            if found:
                images[subject, session] = found[0]
            elif session:
                warnings.append(f"{visit.relative_to(root)}: no T1w image, left out")
    table = next(
        (p for p in (root / "participants.tsv", subjects / "participants.tsv") if p.is_file()), None
    )
    people = participants_table(table, warnings) if table else {}
    if table is None:
        warnings.append(
            f"{root.name}: no participants.tsv, so the scans have no fields of a person"
        )
    named = {subject for subject, _ in images}
    absent = [
        join(*key) for key in people if (key not in images if key[1] else key[0] not in named)
    ]
    refuse_list(table or root, "no T1w image for", absent, "add the images or take out the rows")
    unlisted = [join(*key) for key in images if key not in people and (key[0], "") not in people]
    if unlisted and table:
        warnings.append(f"{table.name}: no row for {shorten(unlisted)}")
    check_files(root, images.values())
    scans = []
    for (subject, session), path in images.items():
        mine = {**people.get((subject, ""), {}), **people.get((subject, session), {})}
        visit_fields = fields.get((subject, session), {})
        mine |= {name: value for name, value in visit_fields.items() if value or name not in mine}
        scans.append(Scan(subject, session, path, mine))
    return Cohort(root, tuple(scans), tuple(warnings))


def read_table_of_images(table: Path) -> Cohort:
    """Read a CSV or TSV with a column of paths, relative to the table's folder, one row a scan.

    Without a column of participants they come from ``sub-`` in the file's name, else its stem.
    """
    frame = read_table(table)
    lower = {str(name).lower(): str(name) for name in reversed(frame.columns)}
    where, who, when = (
        next((lower[name] for name in names if name in lower), None)
        for names in (PATH_COLUMNS, SUBJECT_COLUMNS, SESSION_COLUMNS)
    )
    if where is None:
        need_column(frame, "path", table)
        raise AssertionError
    root, lines = table.parent, frame.attrs["lines"]
    warnings: list[str] = []
    if who is None:
        warnings.append(
            f"{table.name}: no participant_id column; participants are read off the paths"
        )
    outside, scans = [], []
    keys: dict[Key, int] = {}
    for index, row in enumerate(frame.to_dict("records")):
        if not row[where]:
            raise BadInput(table, f"line {lines[index]} has no {where}", "give each row its image")
        path = root / row[where]
        if not path.resolve().is_relative_to(root.resolve()):
            outside.append(f"line {lines[index]} ({row[where]})")
            continue
        subject = strip(row[who], "sub-") if who else subject_of(Path(row[where]))
        if not subject:
            raise BadInput(table, f"line {lines[index]} has no {who}", "name the participant")
        session = strip(row[when], "ses-") if when else entity("ses-", row[where]) or ""
        if (subject, session) in keys:
            refuse_duplicate(table, frame, (subject, session), keys[subject, session], index)
        keys[subject, session] = index
        rest = {str(k): v for k, v in row.items() if k not in {where, who, when}}
        scans.append(Scan(subject, session, path, rest))
    refuse_list(
        table, f"a path outside {root}:", outside, "move the table or the images into one folder"
    )
    check_files(table, (scan.path for scan in scans), root)
    return Cohort(root, tuple(scans), tuple(warnings))


def read_folder(root: Path) -> Cohort:
    """Read every image below a folder; ``folder``, the one field, is the image's own folder.

    The subject is what follows ``sub-`` in the name, else the file's stem (warned of).
    """
    if not root.is_dir():
        raise BadInput(root, "not a folder", "give a folder of images")
    files = sorted(
        (p for p in root.rglob("*") if is_image(p) and not p.name.startswith(".")), key=natural
    )
    check_files(root, files)
    scans, guessed = [], []
    for file in files:
        relative = file.relative_to(root)
        subject = entity("sub-", str(relative))
        if subject is None:
            guessed.append(file.name)
        name = subject or re.sub(r"[^\w.+-]+", "-", stem(file)).strip("-.+") or "image"
        folder = relative.parent.as_posix()
        scans.append(
            Scan(
                name,
                entity("ses-", str(relative)) or "",
                file,
                {"folder": "" if folder == "." else folder},
            )
        )
    warnings = [f"{root.name}: a plain folder, so the scans have no fields but their folder's name"]
    if guessed:
        warnings.append(
            f"no sub- in the name, each taken for a person of its own: {shorten(guessed)}"
        )
    return Cohort(root, tuple(scans), tuple(warnings))


def participants_table(path: Path, warnings: list[str]) -> dict[Key, dict[str, str]]:
    """The rows of ``participants.tsv`` by subject and session ("" where it has no session_id)."""
    frame = read_table(path)
    need_column(frame, "participant_id", path)
    rows: dict[Key, int] = {}
    people: dict[Key, dict[str, str]] = {}
    for index, row in enumerate(frame.to_dict("records")):
        key = strip(row["participant_id"], "sub-"), strip(row.get("session_id", ""), "ses-")
        if not key[0]:
            raise BadInput(
                path, f"line {frame.attrs['lines'][index]} has no participant_id", "name it"
            )
        if key in rows:
            refuse_duplicate(path, frame, key, rows[key], index)
        rows[key] = index
        skip = {"participant_id", "session_id", "filename"}
        people[key] = {str(name): cell for name, cell in row.items() if name not in skip}
    return people


def sessions_table(folder: Path, subject: str) -> dict[Key, dict[str, str]]:
    """The rows of ``sub-S/sub-S_sessions.tsv``; nothing where there is none."""
    path = folder / f"{folder.name}_sessions.tsv"
    if not path.is_file():
        return {}
    frame = read_table(path)
    need_column(frame, "session_id", path)
    rows: dict[Key, int] = {}
    for index, session in enumerate(frame["session_id"]):
        key = subject, strip(session, "ses-")
        if key in rows:
            refuse_duplicate(path, frame, key, rows[key], index)
        rows[key] = index
    records = frame.drop(columns=["session_id", "participant_id"], errors="ignore").to_dict(
        "records"
    )
    return {key: {str(k): v for k, v in records[i].items()} for key, i in rows.items()}


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


def t1w_images(folder: Path, layout: str, anywhere: bool) -> list[Path]:
    """The T1w images of one visit, best first."""
    if layout == "caps":
        found = [p for p in (folder / "t1_linear").glob("*") if T1W.fullmatch(p.name)]
        return sorted(found, key=lambda p: (not is_crop(p), natural(p)))
    found = [p for p in (folder / "anat").glob("*") if T1W.fullmatch(p.name)]
    if not found and anywhere:
        found = [p for p in folder.rglob("*") if T1W.fullmatch(p.name)]
    return sorted((p for p in found if not p.name.startswith(".")), key=natural)


def is_crop(path: Path) -> bool:
    """Whether a CAPS image is cropped to 169 x 208 x 179 voxels."""
    return "_desc-Crop_" in path.name


def is_derivative(root: Path, warnings: list[str]) -> bool:
    """Whether ``dataset_description.json`` calls the tree a derivative; else it is raw."""
    path = root / "dataset_description.json"
    if not path.is_file():
        return False
    try:
        description = json.loads(path.read_text(encoding="utf-8-sig"))
        return bool(description.get("DatasetType", "raw") == "derivative")
    except (ValueError, AttributeError):
        warnings.append(f"{path.name}: not a JSON object, taken for a raw tree")
        return False


def check_files(source: Path, paths: Iterable[Path], root: Path | None = None) -> None:
    """Refuse images that are missing, empty or outside the root, all listed at once.

    Raises
    ------
    BadInput: some are.
    """
    root = (root or source).resolve()
    paths = list(paths)
    show = {p: str(p.relative_to(root) if p.is_relative_to(root) else p.name) for p in paths}
    absent = [show[p] for p in paths if not p.is_file()]
    refuse_list(source, "missing images:", absent, "add them or take out their rows", limit=None)
    outside = [show[p] for p in paths if not p.resolve().is_relative_to(root)]
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


def shorten(names: list[str], limit: int | None = 8) -> str:
    """``a, b, c and 5 more``."""
    if limit is None or len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def labelled_folders(root: Path, prefix: str) -> Iterator[Path]:
    """The folders ``prefix*`` in ``root`` in natural order."""
    folders = (p for p in root.glob(f"{prefix}*") if p.is_dir())
    yield from sorted(folders, key=natural)


def natural(path: Path) -> list[tuple[int, int | str]]:
    """A sorting key by which run-2 comes before run-10."""
    parts = re.findall(r"\d+|\D+", path.as_posix())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


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


READERS: Mapping[str, Callable[[Path], Cohort]] = {
    "bids": read_bids,
    "table": read_table_of_images,
    "caps": read_caps,
    "folder": read_folder,
}
