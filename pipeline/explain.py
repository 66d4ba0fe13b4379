"""``uncus explain``: one scan, several saliency methods, side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from data import files
from data.volume import write_native
from pipeline import figures
from pipeline.notice import NOTICE
from pipeline.predict import Predictor, caption, check_writable, scan_name, sentence
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
        volume = prediction.placed.volume
        folder = self.out / scan_name(self.scan)
        for method in self.methods:
            saliency = predictor.explain(prediction, method, self.explain or None)
            native = predictor.native(prediction, saliency)
            write_native(folder / f"saliency_{method}.nii.gz", native, volume.native)
            figure = figures.saliency(volume, native, caption(prediction, method, self.explain))
            picture = folder / f"saliency_{method}.png"

            def save(path: Path, figure: figures.Figure = figure) -> None:
                figure.savefig(path, format="png", dpi=110)

            files.write_atomically(picture, save)
            print(f"{method}: {picture}")
        print(NOTICE)
        return 0
