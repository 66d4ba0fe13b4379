"""``uncus explain``: saliency maps of one scan by several methods."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from uncus import NOTICE
from uncus.data.design import covariates
from uncus.pipeline.prediction.options import ScanOptions
from uncus.pipeline.prediction.output import check_writable, scan_name, sentence, write_map
from uncus.pipeline.prediction.predictor import Predictor
from uncus.pipeline.saliency import SALIENCY


@dataclass(frozen=True)
class Explain(ScanOptions):
    """Saliency maps of a scan by several methods, on the scan's own grid, with a figure for each.

    Writes OUT/<scan>/saliency_<method>.nii.gz and .png and, if the run's space is mni,
    atlas_<method>.tsv.
    """

    scan: Annotated[Path, tyro.conf.Positional]
    """A T1w volume: NIfTI, Analyze, MGZ, or a DICOM series as a folder, a zip or one file."""
    out: Path
    """Folder for the maps."""
    methods: tuple[str, ...] = tuple(SALIENCY)
    """Methods to use."""

    def run(self) -> int:
        """Write the maps; returns 0."""
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
    """The regions with the largest shares of a map, as one line of text."""
    return ", ".join(f"{row['region']} {row['saliency_share']:.0%}" for row in rows[:count])
