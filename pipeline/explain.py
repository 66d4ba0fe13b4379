"""``uncus explain``: saliency maps of one scan by several methods."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from uncus import NOTICE
from uncus.data.design import covariates
from uncus.pipeline.prediction.output import check_writable, scan_name, sentence, write_map
from uncus.pipeline.prediction.predictor import Predictor
from uncus.pipeline.saliency import SALIENCY


@dataclass(frozen=True)
class Explain:
    """Saliency maps of a scan by several methods, on the scan's own grid, with one picture each.

    Writes OUT/<scan>/saliency_<method>.nii.gz and .png and, where the run's space is mni,
    atlas_<method>.tsv.
    """

    trained: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of uncus train."""
    scan: Annotated[Path, tyro.conf.Positional]
    """A T1w volume: NIfTI, Analyze, MGZ, or a DICOM series as a folder, a zip or one file."""
    out: Path
    """Folder for the maps."""
    methods: tuple[str, ...] = tuple(SALIENCY)
    """Methods to use."""
    explain: Annotated[str, tyro.conf.arg(name="class", metavar="NAME")] = ""
    """Class to explain; the most probable one when left out."""
    series: str = ""
    """Which DICOM series, where there are several: its number in the list, its UID, or words of
    its description."""
    covariates: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE...")] = ()
    """What a run that was trained with --covariates takes besides the scan: age=72 sex=F; left out,
    it is looked for in the participants.tsv of the BIDS tree that the scan lies in, and in a DICOM
    header."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 ..."""

    def run(self) -> int:
        """Make the maps; returns 0."""
        check_writable(self.out)
        predictor = Predictor(self.trained, self.device)
        prediction = predictor(
            self.scan, series=self.series, covariates=covariates.parse(self.covariates)
        )
        print(sentence(prediction))
        folder = self.out / scan_name(self.scan)
        for method in self.methods:
            explanation = predictor.explain(prediction, method, self.explain)
            regions = write_map(folder, explanation, f"_{method}").get("regions")
            print(f"{method}: {folder / f'saliency_{method}'}.nii.gz and .png")
            if regions:
                print(f"  {leading(regions)}")
        print(NOTICE)
        return 0


def leading(rows: list[dict[str, Any]], count: int = 3) -> str:
    """The regions with the largest shares of a map, as a line to read."""
    return ", ".join(f"{row['region']} {row['saliency_share']:.0%}" for row in rows[:count])
