"""List the files of a DICOM folder or zip, and split DICOM from other files."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from uncus.data.dicom import zip_archive
from uncus.data.dicom.frame import decoding_errors, read
from uncus.data.dicom.signature import has_signature, is_named
from uncus.data.dicom.zip_archive import Member
from uncus.data.errors import BadInput
from uncus.data.file_tree import Ignored, is_hidden, is_pointer, walk
from uncus.data.text import natural_text, printable

MAX_FILES = 20_000


def list_members(folder: Path, path: Path, ignored: Ignored) -> list[Member]:
    """List the files at ``path``: itself, those in a folder or in a zip.

    Links in a folder are followed, those in a zip are rejected.
    """
    if path.is_dir():
        files = islice(walk(path, (), ignored), MAX_FILES + 1)
        members = [Member(file, file.relative_to(path).as_posix()) for file in files]
        check_file_count(members, path.name)
    elif zip_archive.is_zip(path):
        members = list(zip_archive.extract(path, folder))
    else:
        members = [Member(path, path.name)]
    shown = [m for m in members if not any(map(is_hidden, Path(m.name).parts))]
    return sorted(shown, key=lambda member: natural_text(member.name))


def check_file_count(members: Sequence[Member], name: str) -> None:
    """Raise BadInput for more files than any series has."""
    if len(members) > MAX_FILES:
        raise BadInput(name, f"contains over {MAX_FILES:,} files", "give the folder of one series")


def split_dicom(members: Sequence[Member]) -> tuple[list[Member], list[Member]]:
    """Split DICOM from other files; a DICOMDIR is checked and belongs to neither.

    Raises
    ------
    BadInput: a file has a DICOM suffix and is not DICOM.
    """
    dicom, other = [], []
    for member in members:
        if "DICOMDIR" in {member.path.name.upper(), Path(member.name).name.upper()}:
            check_dicomdir(member)
        elif has_signature(member.path):
            dicom.append(member)
        elif is_named(member.name):
            raise not_dicom_error(member)
        else:
            other.append(member)
    return dicom, other


def not_dicom_error(member: Member) -> BadInput:
    """The error for a file that is not DICOM."""
    with member.path.open("rb") as stream:
        if is_pointer(stream.read(200)):
            cause = "a pointer of git-annex or Git LFS, without the content"
            return BadInput(printable(member.name), cause, "fetch it, for example with datalad get")
    cause = "is not DICOM: it has no preamble with the letters DICM"
    if member.path.stat().st_size == 0:
        cause = "is empty"
    return BadInput(printable(member.name), cause, "export the series again, or remove the file")


def no_dicom_error(members: Sequence[Member], name: str) -> BadInput:
    """The error for files none of which is DICOM."""
    if not members:
        return BadInput(name, "contains no files", "give a DICOM series")
    if len(members) == 1:
        return not_dicom_error(members[0])
    cause = f"contains no DICOM file (none of {len(members)} has a preamble with the letters DICM)"
    return BadInput(name, cause, "give the folder of one series")


def check_dicomdir(member: Member) -> None:
    """Check that a DICOMDIR, which is not needed otherwise, refers to no file outside its folder.

    Raises
    ------
    BadInput: it refers to one.
    """
    directory = read(member, ["DirectoryRecordSequence"])
    with decoding_errors(member.name):
        for record in directory.get("DirectoryRecordSequence") or []:
            value = record.get("ReferencedFileID") or []
            steps = [value] if isinstance(value, str) else [str(step) for step in value]
            parts = [part for step in steps for part in step.replace("\\", "/").split("/")]
            outside = ".." in parts or any(step.startswith(("/", "\\")) for step in steps)
            if outside or (parts and ":" in parts[0]):
                raise BadInput(
                    printable(member.name),
                    f"leads outside its folder ({printable('/'.join(parts))})",
                    "give the folder of one series",
                )
