"""Volumes of a segmented scan: in the answer, in the files, and who they are compared with."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.pipeline.segmented import segment
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import Volume
from uncus.data.segmentation import segmenter
from uncus.data.segmentation.segmentation import Segmentation
from uncus.data.transforms.scan_tensor import to_volume
from uncus.pipeline.cli import main
from uncus.pipeline.prediction.output import sentence, table_row, write, write_refusal
from uncus.pipeline.prediction.predictor import Predictor, age_and_sex
from uncus.pipeline.prediction.results import Refused


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return Predictor(run, segment=segment)


def test_the_answer_and_its_files_on_the_scans_own_grid(
    predictor: Predictor, scan: Path, tmp_path: Path
) -> None:
    image = nib.load(scan)
    turned = tmp_path / "turned_T1w.nii.gz"
    orientation = nib.orientations.axcodes2ornt("PSR")
    nib.save(
        image.as_reoriented(
            nib.orientations.ornt_transform(nib.io_orientation(image.affine), orientation)
        ),
        turned,
    )
    prediction = predictor(turned, covariates={"age": 72, "sex": "F"})
    answer = write(tmp_path / "out", predictor.explain(prediction))
    assert json.loads((tmp_path / "out" / "prediction.json").read_text()) == answer
    rows = {row["region"]: row for row in answer["volumes"]["regions"]}
    assert rows["left hippocampus"]["volume_ml"] == pytest.approx(12 * 64 / 1000)
    assert rows["right hippocampus"]["volume_ml"] == pytest.approx(8 * 64 / 1000)
    assert rows["left hippocampus"]["asymmetry"] == 0.2
    assert rows["left hippocampus"]["centile"] == 5 and answer["volumes"]["no_centiles"] == ""
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {
        *("prediction.json", "saliency.nii.gz", "saliency.png", "scan.png"),
        *("dseg.nii.gz", "dseg.tsv", "volumes.tsv", "volumes.svg", "volumes-dark.svg"),
    }
    stored, labels = nib.load(turned), nib.load(tmp_path / "out" / "dseg.nii.gz")
    assert labels.shape == stored.shape and np.allclose(labels.affine, stored.affine)
    assert labels.get_data_dtype() == np.uint8
    x = (labels.affine @ [*np.argwhere(np.asarray(labels.dataobj) == 12).mean(0), 1])[0]
    assert x == pytest.approx(-30 + 4 * 3.5)  # the left one, in the scan's mm
    table = pd.read_csv(tmp_path / "out" / "volumes.tsv", sep="\t")
    assert table["volume_ml"].tolist() == [row["volume_ml"] for row in rows.values()]
    row = table_row("turned", answer)
    assert row["ml_left_hippocampus"] == 0.768 and row["centile_left_hippocampus"] == 5
    assert "left hippocampus 0.77 ml (centile 5 or less)" in sentence(prediction)


def test_without_age_and_sex_there_are_volumes_and_no_chart(
    predictor: Predictor, scan: Path, tmp_path: Path
) -> None:
    prediction = predictor(scan)
    assert "the age is unknown" in prediction.volumes["no_centiles"]
    write(tmp_path, predictor.explain(prediction))
    assert (tmp_path / "volumes.tsv").exists() and not list(tmp_path.glob("*.svg"))
    assert "left hippocampus 0.77 ml, right" in sentence(prediction)


def test_age_and_sex_come_from_the_scans_table(predictor: Predictor, source: Path) -> None:
    for subject, age, sex in (("00", 60, "F"), ("02", 62, "M"), ("03", None, "M")):
        scan = source / f"sub-{subject}" / "anat" / f"sub-{subject}_T1w.nii.gz"
        volumes = predictor(scan).volumes
        assert (volumes["age"], volumes["sex"]) == (age, sex)


def test_the_networks_get_nothing_of_age_and_sex(predictor: Predictor, scan: Path) -> None:
    known = predictor(scan, covariates={"age": 90, "sex": "M"})
    assert known.probabilities == predictor(scan).probabilities and not known.covariates
    with pytest.raises(BadInput, match="education"):
        predictor(scan, covariates={"education": 12})
    with pytest.raises(BadInput, match="not a number"):
        predictor(scan, covariates={"age": "old"})


def test_nothing_of_a_scan_is_kept(run: Path, scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of one prediction share a segmentation, also where both ask for it at once."""
    found: list[segmenter.SegmentedBrain] = []
    segment = segmenter.segment

    def segmented(*given: Any) -> segmenter.SegmentedBrain:
        found.append(segment(*given))
        return found[-1]

    monkeypatch.setattr(segmenter, "segment", segmented)
    predictor = Predictor(run)
    place = predictor.pipeline.place

    def placed(scan: Any) -> Any:
        segmenter.segment_volume(to_volume(scan))
        return place(scan)

    predictor.pipeline.place = placed
    predictor(scan)
    assert len(found) == 1 and not segmenter._LAST


def test_without_a_segmentation_there_are_no_volumes(run: Path, scan: Path) -> None:
    predictor = Predictor(run, segment=None)
    assert "volumes" not in predictor(scan).as_dict()
    with pytest.raises(BadInput, match="not a covariate of this run"):
        predictor(scan, covariates={"age": 72})


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"age": "72", "sex": "female"}, (72, "F")),
        ({"age": 72.5, "sex": " M "}, (72.5, "M")),
        ({"age": "89+", "sex": "2"}, (89, "")),
        ({"age": "unknown", "sex": None}, (None, "")),
        ({}, (None, "")),
    ],
)
def test_age_and_sex_of_cells(known: dict, expected: tuple) -> None:
    assert age_and_sex(known) == expected


@pytest.mark.slow
def test_a_refused_scan_leaves_its_picture(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A CT is read, and refused; the file that cannot be read leaves nothing."""
    values = np.random.default_rng(0).uniform(-1000, 1500, (24, 24, 24)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.diag([4.0, 4, 4, 1])), tmp_path / "ct.nii.gz")
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    scans = [str(tmp_path / name) for name in ("ct.nii.gz", "empty.nii.gz")]
    out = tmp_path / "out"
    assert main(["predict", str(run), *scans, "--out", str(out)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    files = {path.relative_to(out).as_posix() for path in out.rglob("*.*")}
    assert files == {"predictions.tsv", "ct/scan.png"}
    with Image.open(out / "ct" / "scan.png") as picture:
        assert picture.width == 1000 and np.asarray(picture.convert("L")).std() > 20
    assert main(["predict", str(run), scans[0]]) == 2
    assert main(["explain", str(run), scans[0], "--out", str(tmp_path / "maps")]) == 2
    assert [path.name for path in (tmp_path / "maps").rglob("*.*")] == ["scan.png"]


def test_a_refusal_has_the_segmentation_and_lets_go_of_the_voxels(
    run: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(run, segment=segment)

    def refuse(_: object) -> None:
        raise BadInput("new_T1w.nii.gz", "this does not look like a head", "give another")

    monkeypatch.setattr(predictor.pipeline, "place", refuse)
    with pytest.raises(Refused, match="look like a head") as caught:
        predictor(scan)
    assert isinstance(caught.value.volume, Volume)
    assert isinstance(caught.value.segmentation, Segmentation)
    error = write_refusal(tmp_path / "out", caught.value)
    assert type(error) is BadInput and str(error) == str(caught.value)
    assert not hasattr(error, "volume") and (tmp_path / "out" / "scan.png").exists()
