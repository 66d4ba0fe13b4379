"""FreeSurfer's folders: which of a subject's images is the scan, and which are segmentations."""

import re
from pathlib import Path

SCANS = ("T1.mgz", "orig.mgz")  # of the whole head, in the scanner's space
SEGMENTATION = re.compile(
    r"(.*[+._-])?(aseg|aparc|dseg|wmparc|ribbon|filled|wm|synthseg)([+._-].*)?", re.IGNORECASE
)


def find_scan(folder: Path) -> Path | None:
    """The scan in a subject's folder, or in the ``mri`` folder inside it; None if it has none."""
    inside = folder if folder.name == "mri" else folder / "mri"
    return next((inside / name for name in SCANS if (inside / name).is_file()), None)


def is_segmentation(name: str) -> bool:
    """Whether an image is one of regions or tissues by its name: ``aparc+aseg.mgz``."""
    return SEGMENTATION.fullmatch(re.sub(r"\.(nii(\.gz)?|mg[hz]|img|hdr)$", "", name)) is not None
