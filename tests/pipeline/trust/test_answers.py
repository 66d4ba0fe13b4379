"""From a trained run to an answer: calibrated by its card, at a prevalence, as a class or none."""

import json
from pathlib import Path

import numpy as np
import pytest

from uncus.data.errors import BadInput
from uncus.data.tables import read_table
from uncus.pipeline.cli import main
from uncus.pipeline.predict import Predictor
from uncus.pipeline.prediction.output import table_row
from uncus.pipeline.runs import Run
from uncus.pipeline.trust.out_of_fold import OutOfFold
from uncus.pipeline.trust.reliability import Reliability, Setting


def test_the_card_has_what_its_predictions_give(sure_run: Path) -> None:
    run = Run(sure_run)
    fitted = Reliability.fit(OutOfFold.of(run.predictions(), run.target))
    assert fitted.calibration and fitted.as_card().items() <= run.card.items()
    assert run.card["calibration"]["scans"] == 40
    # Thresholds, and no score of a single scan under a name.
    assert "sub-" not in json.dumps(fitted.as_card())


def test_each_networks_probabilities_are_calibrated_then_averaged(
    sure_run: Path, scan: Path
) -> None:
    predictor = Predictor(sure_run, segment=None)
    prediction = predictor(scan)
    raw = prediction.judgement.outputs
    calibration = predictor.reliability.calibration
    assert calibration and len(raw) == 2 and not np.allclose(raw, calibration(raw))
    assert prediction.probabilities["AD"] == pytest.approx(calibration(raw)[:, 1].mean())
    assert prediction.judgement.uncalibrated["AD"] == pytest.approx(raw[:, 1].mean())
    assert prediction.label in {None, "CN", "AD"}
    assert (prediction.label is None) == bool(prediction.abstains)


def test_predict_shows_and_writes_the_answer(
    sure_run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, both = tmp_path / "out", [str(scan), str(scan.with_name("other_T1w.nii.gz"))]
    scan.with_name("other_T1w.nii.gz").write_bytes(scan.read_bytes())
    options = ["--prevalence", "AD=0.1", "--error-level", "0.2", "--out", str(out)]
    assert main(["predict", str(sure_run), *both, *options]) == 0
    printed = capsys.readouterr().out
    assert "calibrated: the probabilities are for" in printed and "90% CN, 10% AD" in printed
    answer = json.loads((out / "new_T1w" / "prediction.json").read_text())
    assert answer["calibrated"] and answer["error_level"] == 0.2
    assert answer["prevalence"] == pytest.approx({"CN": 0.9, "AD": 0.1})
    here = Predictor(sure_run, segment=None)(scan, setting=Setting(error_level=0.2))
    assert answer["uncalibrated"] == pytest.approx(here.judgement.uncalibrated)
    assert answer["probabilities"]["AD"] < here.probabilities["AD"]
    assert answer["set"] == list(here.judgement.fits or ())
    assert answer["domain"]["inside"] is not False
    assert answer["class"] == (answer["set"][0] if len(answer["set"]) == 1 else None)
    assert (answer["class"] is None) == ("abstains" in answer)
    row = read_table(out / "predictions.tsv").iloc[0]
    assert row["answer"] == (f"{answer['class']}-like" if answer["class"] else "cannot tell")
    assert float(row["p_AD"]) == pytest.approx(answer["probabilities"]["AD"])
    assert float(row["uncalibrated_AD"]) == pytest.approx(answer["uncalibrated"]["AD"])
    assert float(row["prevalence_AD"]) == pytest.approx(0.1) and row["error_level"] == "0.2"


def test_the_table_has_no_figures_for_a_scan_of_another_domain() -> None:
    domain = {"inside": False, "reasons": ["it is a slab"]}
    answer = {"label": None, "probabilities": {"CN": 0.1, "AD": 0.9}, "spread": {"AD": 0.1}}
    answer |= {"set": ["AD"], "error_level": 0.1, "prevalence": {"AD": 0.5}, "warnings": []}
    row = table_row("a", answer | {"domain": domain})
    figures = ("p_CN", "p_AD", "spread_AD", "prevalence_AD", "error_level")
    assert [row[name] for name in figures] == [""] * 5 and row["answer"] == "cannot tell"
    assert table_row("a", answer | {"label": "AD"})["p_AD"] == 0.9


def test_a_prediction_is_judged_again_without_the_networks(sure_run: Path, scan: Path) -> None:
    predictor = Predictor(sure_run, segment=None)
    setting = Setting({"AD": 0.02}, 0.3)
    again = predictor.again(predictor(scan), setting)
    assert again.as_dict() == predictor(scan, setting=setting).as_dict()
    with pytest.raises(BadInput, match="FTD"):
        predictor.again(again, Setting({"FTD": 0.5}))


@pytest.mark.parametrize("options", ["--prevalence AD=2", "--prevalence X=0.1", "--error-level 0"])
def test_bad_options_are_refused_in_one_line(
    sure_run: Path, scan: Path, options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(sure_run), str(scan), *options.split()]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and options.split()[0] in error


def test_a_small_run_says_why_it_is_not_calibrated(
    run: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(run), str(scan)]) == 0
    assert (
        "not calibrated (6 out-of-fold subjects of CN, and at least 10" in capsys.readouterr().out
    )
    assert main(["predict", str(run), str(scan), "--prevalence", "AD=0.1"]) == 2
    assert "the run is not calibrated: 6 out-of-fold subjects" in capsys.readouterr().err
