"""What is synthetic: `uncus phantom` says so in the headers of its scans and in the dataset."""

from pathlib import Path

import nibabel as nib

from uncus.data.errors import BadInput
from uncus.data.files import read_json

RECIPE = "PhantomRecipe"
"""Of dataset_description.json: the options of `uncus phantom`."""

MARK = b"uncus phantom"
"""The description in the NIfTI header of each scan."""


def is_phantom(path: Path) -> bool:
    """Whether a scan was made by `uncus phantom`, by its header or the dataset that it is in."""
    try:
        header = nib.load(path).header
        marked = isinstance(header, nib.Nifti1Header) and header["descrip"].item() == MARK
    except (OSError, nib.filebasedimages.ImageFileError):
        marked = False
    return marked or any(map(is_synthetic, list(path.resolve().parents)[:5]))


def is_synthetic(root: Path) -> bool:
    """Whether the dataset in the folder ``root`` was made by `uncus phantom`."""
    path = root / "dataset_description.json"
    try:
        description = read_json(path) if path.is_file() else None
    except BadInput:
        return False
    return isinstance(description, dict) and RECIPE in description
