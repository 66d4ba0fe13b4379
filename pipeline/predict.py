"""``uncus predict``: probabilities (or values) and a saliency map for scans."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from uncus.data.design import covariates
from uncus.data.dicom import reader
from uncus.data.errors import BadInput, error_line
from uncus.data.prepared_cohort import MANIFEST, PreparedCohort
from uncus.data.text import displayed
from uncus.pipeline.builtin.catalog import run_and_scans
from uncus.pipeline.prediction.openvino_engine import Engine
from uncus.pipeline.prediction.options import SCANS, ScanOptions
from uncus.pipeline.prediction.output import (
    check_writable,
    refusal_pictured,
    scan_name,
    show,
    table_row,
    write,
    write_predictions,
)
from uncus.pipeline.prediction.predictor import AUTO, Predictor, common_path
from uncus.pipeline.prediction.prepared_scans import check_space, predict_prepared
from uncus.pipeline.prediction.results import Prediction
from uncus.pipeline.progress_bars import track
from uncus.pipeline.runs import check_free
from uncus.pipeline.trust.conformal import ERROR_LEVEL
from uncus.pipeline.trust.reliability import Setting

__all__ = ["Predict", "Prediction", "Predictor"]


@dataclass(frozen=True)
class Predict(ScanOptions):
    """Probabilities (or values) and a saliency map for unlabelled scans.

    Writes OUT/<scan>/prediction.json, saliency.nii.gz on the scan's own grid, saliency.png and,
    if the run's space is mni, atlas.tsv; scan.png, the scan itself, also where it is refused. Of a
    segmented scan, dseg.nii.gz, volumes.tsv and charts. For several scans, OUT/predictions.tsv has
    one row each.
    """

    scans: Annotated[tuple[Path, ...], tyro.conf.Positional, SCANS] = ()
    """T1w volumes: NIfTI, Analyze, MGZ, the folder of one of FreeSurfer's subjects, or a DICOM
    series as a folder, a zip or its files; or a
    prepared cohort, for all of its scans."""
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
    prevalence: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=SHARE...")] = ()
    """Share of a class where the scans come from, AD=0.1, by default as in the run's cohort: the
    calibrated probabilities are for that place."""
    error_level: float = ERROR_LEVEL
    """Share of the scans of each class that may be answered without it: 0.01 to 0.5. The less, the
    more often the answer is: cannot tell."""

    def run(self) -> int:
        """Predict every scan; returns 0 when all succeeded, 1 when some failed, 2 when all did."""
        run, scans = run_and_scans(self.trained, self.scans)
        setting, items = self.setting, items_of(scans)
        counts = Counter(item.name for item in items)
        if self.covariates and len(items) > 1:
            raise ValueError("--covariates applies to one subject; predict each scan separately")
        if self.out and (twice := sorted(name for name, count in counts.items() if count > 1)):
            raise ValueError(f"several scans are named {twice[0]}; predict each into its own --out")
        if self.out:
            check_free(self.out)
            check_writable(self.out)
        # Loading OpenVINO takes longer than it saves on one or two scans.
        several = len(items) > 2 or self.engine != "auto"
        predictor = Predictor(run, self.device, self.engine if several else "torch")
        predictor.reliability.shares(setting)
        if self.engine != "auto" and predictor.engine_error:
            print(f"uncus: {predictor.engine_error}; using torch instead", file=sys.stderr)
        for cohort in {id(item.cohort): item.cohort for item in items if item.cohort}.values():
            check_space(cohort, predictor)
        answers: list[dict[str, Any]] = []
        failures: list[Exception] = []
        rows: list[dict[str, Any]] = []
        try:
            for item in track(items, "predicting"):
                try:
                    answers.append(self.one(predictor, item))
                    rows.append(table_row(item.name, answers[-1]))
                except (BadInput, OSError, MemoryError) as error:
                    failures.append(error)
                    rows.append({"scan": displayed(item.name), "error": error_line(error)})
        finally:
            if self.out and len(items) > 1:
                write_predictions(self.out, rows)
        if failures and not answers:
            raise (
                failures[0]
                if len(failures) == 1
                else ValueError(" | ".join(map(error_line, failures)))
            )
        if self.as_json:
            print(json.dumps(answers if len(items) > 1 else answers[0], indent=2))
        for failure in failures:
            print(f"uncus: {error_line(failure)}", file=sys.stderr)
        return 1 if failures else 0

    @property
    def setting(self) -> Setting:
        """How the outputs are judged; raises BadInput for unsuitable options."""
        return Setting.parse(self.prevalence, self.error_level)

    def one(self, predictor: Predictor, item: "Item") -> dict[str, Any]:
        """Predict one scan; write and print the result as requested."""
        known = covariates.parse(self.covariates)
        if item.cohort:
            prediction = predict_prepared(predictor, item.cohort, item.row, known, self.setting)
        else:
            prediction = self.predicted(predictor, item, known)
        answer = prediction.as_dict()
        if self.out:
            explanation = predictor.explain(prediction, self.method, self.explain)
            answer = write(self.out / item.name, explanation)
        if not self.as_json:
            show(prediction)
            for doubt in answer.get("saliency_warnings", ()):
                print(f"  warning: {answer['saliency']}: {doubt}")
        return answer

    def predicted(self, predictor: Predictor, item: "Item", known: dict[str, str]) -> Prediction:
        """The prediction for one scan; the picture of a refused one is written."""
        pictured = refusal_pictured(self.out / item.name) if self.out else nullcontext()
        with pictured:
            return predictor(item.paths, series=self.series, covariates=known, setting=self.setting)


@dataclass(frozen=True)
class Item:
    """A scan to predict: its files, or its row in a prepared cohort."""

    name: str
    paths: tuple[Path, ...]
    cohort: PreparedCohort | None = None
    row: int = -1


def items_of(scans: Sequence[Path]) -> list[Item]:
    """The scans to predict, those of a prepared cohort one by one."""
    cohorts = {path: PreparedCohort.open(path) for path in scans if is_prepared(path)}
    found = []
    for paths in reader.group_paths([path for path in scans if path not in cohorts]):
        found.append(Item(scan_name(common_path(paths)), paths))
    for cohort in cohorts.values():
        names = [entry["name"] for entry in cohort.manifest["scans"]]
        found += [Item(name, (), cohort, row) for row, name in enumerate(names)]
    return found


def is_prepared(path: Path) -> bool:
    """Whether a path is the folder of a prepared cohort."""
    return (path / MANIFEST).is_file()
