"""``uncus predict``: probabilities (or values) and a saliency map for scans."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from uncus.data.design import covariates
from uncus.data.dicom import reader
from uncus.data.errors import BadInput
from uncus.pipeline.prediction.openvino_engine import Engine
from uncus.pipeline.prediction.options import ScanOptions
from uncus.pipeline.prediction.output import check_writable, scan_name, sentence, write
from uncus.pipeline.prediction.predictor import AUTO, Predictor, common_path
from uncus.pipeline.prediction.results import Prediction
from uncus.pipeline.progress_bars import track

__all__ = ["Predict", "Prediction", "Predictor"]


@dataclass(frozen=True)
class Predict(ScanOptions):
    """Probabilities (or values) and a saliency map for unlabelled scans.

    Writes OUT/<scan>/prediction.json, saliency.nii.gz on the scan's own grid, saliency.png and,
    if the run's space is mni, atlas.tsv.
    """

    scans: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SCAN...")]
    """T1w volumes: NIfTI, Analyze, MGZ, or a DICOM series as a folder, a zip or its files."""
    out: Path | None = None
    """Folder for the results; without it they are only printed."""
    method: str = AUTO
    """Saliency: grad_cam, grad_cam_pp, integrated_gradients, occlusion or gradient; auto uses
    Grad-CAM, or integrated gradients if the last feature map is too coarse for it."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON: an object for one scan, a list for several."""
    engine: Engine = "auto"
    """Inference engine: torch, or openvino (the extra fast, on a CPU); auto uses OpenVINO for
    several scans if it is faster. openvino-bf16 has two or three correct digits and is meant for
    CPUs with AMX; uncus bench predict measures whether it is faster."""

    def run(self) -> int:
        """Predict every scan; returns 0 when all succeeded, 1 when some failed, 2 when all did."""
        if not self.scans:
            raise ValueError("no scan given; uncus predict RUN SCAN... --out DIR")
        scans = reader.group_paths(self.scans)
        names = [scan_name(common_path(paths)) for paths in scans]
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if self.covariates and len(scans) > 1:
            raise ValueError("--covariates applies to one subject; predict each scan separately")
        if self.out and duplicates:
            raise ValueError(
                f"several scans are named {duplicates[0]}; predict each into its own --out"
            )
        if self.out:
            check_writable(self.out)
        # Loading OpenVINO takes longer than it saves on one or two scans.
        several = len(scans) > 2 or self.engine != "auto"
        predictor = Predictor(self.trained, self.device, self.engine if several else "torch")
        if self.engine != "auto" and predictor.engine_error:
            print(f"uncus: {predictor.engine_error}; using torch instead", file=sys.stderr)
        answers: list[dict[str, Any]] = []
        failures: list[BadInput] = []
        for paths in track(scans, "predicting"):
            try:
                answers.append(self.one(predictor, paths))
            except BadInput as error:
                failures.append(error)
        if failures and not answers:
            raise failures[0] if len(failures) == 1 else ValueError(" | ".join(map(str, failures)))
        if self.as_json:
            print(json.dumps(answers if len(scans) > 1 else answers[0], indent=2))
        for failure in failures:
            print(f"uncus: {failure}", file=sys.stderr)
        return 1 if failures else 0

    def one(self, predictor: Predictor, paths: tuple[Path, ...]) -> dict[str, Any]:
        """Predict one scan; write and print the result as requested."""
        known = covariates.parse(self.covariates)
        prediction = predictor(paths, series=self.series, covariates=known)
        answer = prediction.as_dict()
        if self.out:
            explanation = predictor.explain(prediction, self.method, self.explain)
            answer = write(self.out / scan_name(common_path(paths)), explanation)
        if not self.as_json:
            print(sentence(prediction))
        return answer
