"""``uncus explain``: one scan, several saliency methods, side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pipeline.notice import NOTICE
from pipeline.predict import Predictor, check_writable, scan_name, sentence, write_saliency
from pipeline.saliency import SALIENCY


@dataclass(frozen=True)
class Explain:
    """Saliency maps of a scan by several methods, on the scan's own grid, with one picture each.

    Writes OUT/<scan>/saliency_<method>.nii.gz and .png.
    """

    trained: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of uncus train."""
    scan: Annotated[Path, tyro.conf.Positional]
    """A T1w volume."""
    out: Path
    """Folder for the maps."""
    methods: tuple[str, ...] = tuple(SALIENCY)
    """Methods to use."""
    explain: Annotated[str, tyro.conf.arg(name="class", metavar="NAME")] = ""
    """Class to explain; the most probable one when left out."""
    device: str = "cpu"
    """cpu, cuda, cuda:1 ..."""

    def run(self) -> int:
        """Make the maps; returns 0."""
        check_writable(self.out)
        predictor = Predictor(self.trained, self.device)
        prediction = predictor(self.scan)
        print(sentence(prediction))
        folder = self.out / scan_name(self.scan)
        for method in self.methods:
            saliency = predictor.explain(prediction, method, self.explain or None)
            stem = folder / f"saliency_{method}"
            on_scan = predictor.on_scan(prediction, saliency)
            write_saliency(stem, prediction, on_scan, method, self.explain)
            print(f"{method}: {stem}.nii.gz and .png")
        print(NOTICE)
        return 0
