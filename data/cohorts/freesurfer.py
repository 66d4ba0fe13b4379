"""Cohorts of FreeSurfer's subject folders: SUBJECT/mri/T1.mgz, or orig.mgz."""

from dataclasses import replace
from pathlib import Path

from uncus.data.cohorts.bids_names import check_files, entity, join, labelled_folders, to_label
from uncus.data.cohorts.participants import check_rows, fields_of, participants_table, relabelled
from uncus.data.cohorts.scans import Cohort, Scan
from uncus.data.errors import BadInput
from uncus.data.file_tree import Ignored, ignored_warnings, is_hidden
from uncus.data.imageio.freesurfer import find_scan
from uncus.data.text import shorten

TEMPLATES = ("fsaverage", "cvs_avg35")  # beginnings of the names of FreeSurfer's own subjects


def is_freesurfer(root: Path) -> bool:
    """Whether ``root`` is a subject's folder or a folder of them."""
    return find_scan(root) is not None or any(find_scan(path) for path in root.iterdir())


def read_freesurfer(root: Path) -> Cohort:
    """Read FreeSurfer's SUBJECTS_DIR, or the folder of one subject.

    The subject and session are the ``sub-`` and ``ses-`` entities of a folder's name, else the
    subject is the name. Templates, of FreeSurfer or of a subject's sessions (``base-tps``), are
    ignored, and so is the longitudinal result (``NAME.long.BASE``) where the folder ``NAME`` is
    there. Fields come from ``participants.tsv`` in ``root``.
    """
    if not root.is_dir():
        raise BadInput(root, "not a folder", "give the folder of FreeSurfer's subjects")
    ignored: Ignored = {}
    folders = [p for p in labelled_folders(root, "", ignored) if not is_hidden(p.name)]
    folders = [root] if find_scan(root) else folders
    names = {folder.name for folder in folders}
    scans: list[Scan] = []
    templates, left_out = list[str](), dict[str, str]()
    for folder in folders:
        name, _, base = folder.name.partition(".long.")
        path = find_scan(folder)
        template = name.startswith(TEMPLATES) or (folder / "base-tps").is_file()
        if template or (base and name in names):
            templates.append(folder.name)
        elif path:
            subject = entity("sub-", name) or to_label(name)
            scans.append(Scan(subject, entity("ses-", name) or "", path))
        else:
            left_out[folder.name] = "without mri/T1.mgz and mri/orig.mgz"
    warnings = ignored_warnings(ignored)
    if templates:
        warnings.append(f"templates and longitudinal results, ignored: {shorten(templates, 5)}")
    check_files(root, (scan.path for scan in scans))
    table = root / "participants.tsv"
    if table.is_file():
        keys = sorted({(scan.subject, scan.session) for scan in scans})
        rows = relabelled(table.name, participants_table(table), keys, warnings)
        scans = [replace(s, fields=fields_of(rows, s.subject, s.session)) for s in scans]
        for key in check_rows(table, rows, keys, warnings):
            left_out[join(*key)] = "without FreeSurfer's folder"
    else:
        warnings.append(f"{root.name}: no participants.tsv, so scans have no participant fields")
    return Cohort(root, tuple(scans), tuple(warnings), left_out)
