"""``uncus phantom``: a synthetic cohort as a raw BIDS dataset, with ground truth for each scan."""

import gzip
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import nibabel
import numpy as np
import pandas as pd
import torch
import tyro
from matplotlib.figure import Figure

from uncus import __version__
from uncus.data import files
from uncus.data.errors import BadInput
from uncus.data.phantom.anatomy import load_anatomy
from uncus.data.phantom.recipe import MARK, RECIPE
from uncus.data.phantom.subject import (
    MIN_DISPLACEMENT,
    SEVERITY,
    Parameters,
    Subject,
    aligned,
    best_accuracy,
    draw_parameters,
    forward,
    make_subject,
)
from uncus.data.tables import write_table
from uncus.pipeline.environment import cpu_count
from uncus.pipeline.progress_bars import track
from uncus.pipeline.rendering.slices import OUTLINE, View, montage, save_png

HIPPOCAMPUS = (26.0, -20.0, -14.0)  # MNI152, mm; the planes of montages pass through it
COLUMNS = {
    "age": {"Description": "age at the scan", "Units": "years"},
    "sex": {"Description": "sex", "Levels": {"F": "female", "M": "male"}},
    "diagnosis": {"Description": "class from which the severity was drawn"},
    "severity": {"Description": "amount of atrophy, 0 none to 1 late disease"},
    "site": {"Description": "scanner; differs in image only with --confounder site"},
    "hippocampi_ml": {"Description": "true volume of both hippocampi", "Units": "ml"},
    "ventricles_ml": {"Description": "true volume of the ventricles", "Units": "ml"},
}
README = """A synthetic cohort made by `uncus phantom`; no person was scanned.

Every brain is the ICBM152 2009a template with its own shape, scanner and degree of atrophy.
sub-*/anat contains the scans, without skull. derivatives/atrophy contains the ground truth: a mask
of the tissue that atrophy displaced by more than {visible} mm (empty if there is none).
"""


@dataclass(frozen=True)
class MakePhantom:
    """Make a synthetic cohort with known atrophy, from the ICBM152 template; nothing is downloaded.

    Subject i does not depend on the number of subjects, so a cohort can be extended later.
    """

    out: Annotated[Path, tyro.conf.Positional]
    """Folder for the BIDS dataset."""
    subjects: int = 60
    """Number of subjects, one scan each."""
    seed: int = 0
    """The same seed makes the same files, byte for byte."""
    spacing: float = 2.0
    """Voxel size (mm)."""
    classes: tuple[str, ...] = ("CN", "AD")
    """Diagnoses, equally frequent: any of CN, MCI, AD."""
    confounder: Literal["none", "site", "age"] = "none"
    """Add a confounder: a scanner or an age that is associated with the diagnosis."""
    strength: float = 1.0
    """Strength of the association with the diagnosis, 0 to 1."""
    overlap: float = 0.0
    """Widen the range of severity of each class by this much on both sides, so that classes
    overlap and no classifier can be perfect; the best possible accuracy is printed."""
    first: int = 0
    """Number of the first subject; other numbers are other subjects."""
    registered: bool = False
    """Make the brains registered to MNI152, with sform code 4 in their files, so that
    `uncus prepare --space mni` does not register them again."""
    workers: int = 0
    """Subjects made in parallel; 0 is one per core."""
    montage: Path | None = None
    """Write a montage of some brains, with the atrophy outlined, to this PNG file."""

    def __post_init__(self) -> None:
        if self.subjects < 1 or self.first < 0 or self.seed < 0 or self.workers < 0:
            raise ValueError(
                f"subjects={self.subjects}, first={self.first}, seed={self.seed}, "
                f"workers={self.workers}: give at least one subject and nothing negative"
            )
        if not 0.5 <= self.spacing <= 12:
            raise ValueError(f"spacing={self.spacing}: give 0.5 to 12 mm")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength={self.strength}: give 0 to 1")
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"overlap={self.overlap}: give 0 to 1")
        if unknown := sorted(set(self.classes) - set(SEVERITY)):
            raise ValueError(f"unknown classes {', '.join(unknown)}; known: {', '.join(SEVERITY)}")
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes={self.classes}: name each class once")

    def run(self) -> int:
        """Write the cohort; returns the exit code."""
        table = make_cohort(self)
        if self.montage:
            save_png(draw_cohort(self, table), self.montage)
        counts = table["diagnosis"].value_counts()
        print(
            f"{self.out}: {len(table)} subjects ("
            + ", ".join(f"{counts[name]} {name}" for name in self.classes if name in counts)
            + f"); best possible accuracy {best_accuracy(self.classes, self.overlap):.1%}; "
            f"next: uncus prepare {self.out} COHORT --spacing {self.spacing:g}"
        )
        return 0


def make_cohort(options: MakePhantom) -> pd.DataFrame:
    """Write the BIDS dataset that `options` describe; returns participants.tsv as a table.

    A folder with a cohort of the same options, incomplete or smaller, is written again.

    Raises
    ------
    BadInput: the folder contains something else.
    """
    recipe = {
        name: getattr(options, name)
        for name in ("seed", "spacing", "classes", "confounder", "strength", "first")
    }
    recipe["classes"] = list(options.classes)
    if options.registered:
        recipe["registered"] = True
    if options.overlap:
        recipe["overlap"] = options.overlap
    code = 4 if options.registered else 1  # NIfTI codes of MNI152 and scanner coordinates
    with files.locked(options.out, "cohort"):
        claim(options.out, recipe)
        anatomy = load_anatomy(options.spacing)

        def make(index: int) -> dict[str, Any]:
            params = draw(options, index)
            subject = make_subject(params, anatomy, options.spacing)
            name = f"sub-{params.name}"
            mask = Path("derivatives/atrophy") / name / f"anat/{name}_desc-atrophy_mask.nii.gz"
            atrophy = subject.atrophy.astype(np.uint8)
            write_scan(options.out / mask, atrophy, subject, params.flipped, code)
            scan = options.out / name / "anat" / f"{name}_T1w.nii.gz"
            write_scan(scan, subject.image, subject, params.flipped, code)
            return {
                "participant_id": name,
                "age": f"{params.age:.1f}",
                "sex": params.sex,
                "diagnosis": params.diagnosis,
                "severity": f"{params.severity:.4f}",
                "site": params.site,
                "hippocampi_ml": f"{subject.hippocampi:.3f}",
                "ventricles_ml": f"{subject.ventricles:.3f}",
            }

        todo = range(options.first, options.first + options.subjects)
        rows = in_parallel(make, todo, options.workers, "phantom")
        table = pd.DataFrame(rows)
        # Last: a dataset with a participants.tsv is complete.
        write_table(options.out / "participants.tsv", table)
    return table


def draw(options: MakePhantom, index: int) -> Parameters:
    """Subject `index` of the cohort."""
    params = draw_parameters(
        options.seed,
        index,
        options.classes,
        options.confounder,
        options.strength,
        options.overlap,
    )
    return aligned(params) if options.registered else params


def draw_cohort(options: MakePhantom, table: pd.DataFrame, rows: int = 4) -> Figure:
    """`rows` subjects of each class by severity, one column per class, through a hippocampus."""
    views: dict[str, list[View]] = {}
    for name in options.classes:
        of_class = table[table["diagnosis"] == name]
        of_class = of_class.iloc[of_class["severity"].astype(float).argsort()]
        chosen = np.unique(np.linspace(0, len(of_class) - 1, rows).round().astype(int))
        views[name] = [view_subject(options, row) for _, row in of_class.iloc[chosen].iterrows()]
    rows = min(map(len, views.values()))
    note = f"blue: displaced by atrophy by more than {MIN_DISPLACEMENT} mm. Synthetic brains."
    return montage([v[i] for i in range(rows) for v in views.values()], len(views), note)


def view_subject(options: MakePhantom, row: pd.Series) -> View:
    """A subject, read from its files."""
    name = row["participant_id"]
    params = draw(options, int(name.removeprefix("sub-P")) - 1)
    scan, truth = (
        nibabel.as_closest_canonical(nibabel.load(path)) for path in scan_paths(options.out, name)
    )
    return View(
        np.asanyarray(scan.dataobj),
        scan.affine,
        outlines={OUTLINE: np.asanyarray(truth.dataobj)},
        at=forward(params, HIPPOCAMPUS),
        title=f"{row['diagnosis']}   severity {float(row['severity']):.2f}   "
        f"age {float(row['age']):.0f}   hippocampi {float(row['hippocampi_ml']):.1f} ml   "
        f"ventricles {float(row['ventricles_ml']):.0f} ml",
    )


def scan_paths(out: Path, name: str) -> tuple[Path, Path]:
    """The scan of subject `name` (with sub-) and its atrophy mask."""
    return (
        out / name / "anat" / f"{name}_T1w.nii.gz",
        out / "derivatives" / "atrophy" / name / "anat" / f"{name}_desc-atrophy_mask.nii.gz",
    )


def claim(out: Path, recipe: dict[str, Any]) -> None:
    """Write the dataset's descriptions, or check that existing ones have the same recipe."""
    description = out / "dataset_description.json"
    if description.exists():
        existing = files.read_json(description)
        if not isinstance(existing, dict) or existing.get(RECIPE) != recipe:
            raise BadInput(
                out,
                "contains another cohort",
                "name a new folder, or use the same seed and options",
            )
    elif any(path.name != ".lock" for path in out.iterdir()):
        raise BadInput(out, "is not empty", "name a new folder")
    maker = [{"Name": "uncus phantom", "Version": __version__}]
    common: dict[str, Any] = {"BIDSVersion": "1.9.0", "GeneratedBy": maker}
    truth = {"Name": "Tissue displaced by atrophy", "DatasetType": "derivative", **common}
    files.write_json(out / "derivatives" / "atrophy" / "dataset_description.json", truth)
    files.write_json(out / "participants.json", COLUMNS)
    files.write_text(out / "README", README.format(visible=MIN_DISPLACEMENT))
    raw = {"Name": "uncus phantom", "DatasetType": "raw", **common, RECIPE: recipe}
    files.write_json(description, raw)


def write_scan(path: Path, array: Any, subject: Subject, flipped: bool, code: int) -> None:
    """Write a RAS+ array [X, Y, Z] as NIfTI, stored as LAS if `flipped`; reproducible to the byte.

    `code` is the NIfTI code of the affine: 1 scanner coordinates, 4 MNI152.
    """
    affine = subject.affine
    if flipped:
        flip = np.diag([-1.0, 1.0, 1.0, 1.0])
        flip[0, 3] = array.shape[0] - 1
        array, affine = array[::-1], affine @ flip
    image = nibabel.Nifti1Image(array, affine)
    image.set_qform(affine, code=code)
    image.set_sform(affine, code=code)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = MARK
    packed = gzip.compress(image.to_bytes(), compresslevel=3, mtime=0)
    files.write_atomically(path, lambda temporary: temporary.write_bytes(packed))


def in_parallel(make: Any, todo: Sequence[int], workers: int, title: str) -> list[Any]:
    """`make` applied to every item, in order, with a progress bar on a terminal."""
    workers = workers or cpu_count()
    # Interpolation and gzip release the GIL; the threads share the anatomy.
    with one_torch_thread(), ThreadPoolExecutor(workers) as pool:
        made = pool.map(make, todo)
        return list(track(made, title, total=len(todo)))


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """One thread per worker, within the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
