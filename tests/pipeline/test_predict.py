"""Predictions: the same for every way a scan may be stored, sealed, refused where they must be."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from tests.dicom_files import save, series
from uncus import NOTICE
from uncus.data.files import write_json
from uncus.models.build import ModelConfig, build_model
from uncus.models.weights import save_weights
from uncus.pipeline.cli import main
from uncus.pipeline.predict import Predictor
from uncus.pipeline.prediction.output import scan_name
from uncus.pipeline.runs import Run


def stored_as(path: Path, codes: str, folder: Path) -> Path:
    """The same scan with its voxels in another order."""
    image = nib.load(path)
    change = ornt_transform(io_orientation(image.affine), axcodes2ornt(codes))
    turned = image.as_reoriented(change)
    assert np.allclose(turned.affine, image.affine @ inv_ornt_aff(change, image.shape))
    out = folder / f"{codes}_T1w.nii.gz"
    nib.save(turned, out)
    return out


def in_world(path: Path) -> dict[tuple[int, ...], float]:
    """Voxel centre in mm -> value."""
    image = nib.load(path)
    where = np.indices(image.shape).reshape(3, -1)
    centres = np.rint(image.affine[:3, :3] @ where + image.affine[:3, 3:]).astype(int)
    values = image.get_fdata().ravel()
    return dict(zip(map(tuple, centres.T.tolist()), values.tolist(), strict=True))


def test_files_and_json(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["predict", str(run), str(scan), "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    folder = out / "new_T1w"
    written = json.loads((folder / "prediction.json").read_text())
    assert printed == written
    assert set(written["probabilities"]) == {"CN", "AD"}
    assert sum(written["probabilities"].values()) == pytest.approx(1)
    assert written["notice"] == NOTICE and written["saliency"] == "grad_cam"
    assert isinstance(written["warnings"], list) and written["model"]["norm"] == "group"
    image, saliency = nib.load(scan), nib.load(folder / "saliency.nii.gz")
    assert saliency.shape == image.shape
    assert np.allclose(saliency.affine, image.affine)
    assert (folder / "saliency.png").read_bytes().startswith(b"\x89PNG")


def test_a_map_of_few_features_is_not_the_first_choice(run: Path, scan: Path) -> None:
    predictor = Predictor(run)
    prediction = predictor(scan)
    wide = np.zeros((1, 4, 3, 3, 3), np.float32)
    for maps, method in (
        (prediction.feature_maps, "grad_cam"),
        ((wide, wide), "grad_cam"),
        ((wide, wide[..., :2]), "integrated_gradients"),
    ):
        assert predictor.method(replace(prediction, feature_maps=maps)) == method
    assert predictor.method(prediction, "occlusion") == "occlusion"


@pytest.mark.parametrize("codes", ["LAS", "LPI", "PSR", "AIL"])
@pytest.mark.parametrize("method", ["grad_cam", "occlusion"])
def test_storage_order_changes_nothing(
    run: Path, scan: Path, tmp_path: Path, codes: str, method: str
) -> None:
    other = stored_as(scan, codes, tmp_path)
    for path in (scan, other):
        options = ["--out", str(tmp_path / "out"), "--method", method, "--class", "AD"]
        assert main(["predict", str(run), str(path), *options]) == 0
    folders = [tmp_path / "out" / name for name in ("new_T1w", f"{codes}_T1w")]
    first, second = (json.loads((f / "prediction.json").read_text()) for f in folders)
    for name, share in first["probabilities"].items():
        assert second["probabilities"][name] == pytest.approx(share, abs=1e-4)
    one, two = (in_world(f / "saliency.nii.gz") for f in folders)
    assert one.keys() == two.keys()
    assert max(abs(value - two[place]) for place, value in one.items()) < 1e-4
    assert max(map(abs, one.values())) > 0.1


def test_equals_the_out_of_fold_prediction(run: Path, source: Path) -> None:
    predictor = Predictor(run)
    table = Run(run).predictions()
    for row in table.itertuples():
        path = source / row.participant_id / "anat" / f"{row.participant_id}_T1w.nii.gz"
        prediction = predictor(path)
        own = prediction.members[int(row.fold)]["AD"]
        assert own == pytest.approx(row.p_AD, abs=1e-5)
        assert any("was trained on this scan" in warning for warning in prediction.warnings)


def test_mean_and_spread_over_the_networks(run: Path, scan: Path) -> None:
    prediction = Predictor(run)(scan)
    shares = [member["AD"] for member in prediction.members]
    assert len(shares) == 2
    assert prediction.probabilities["AD"] == pytest.approx(np.mean(shares))
    assert prediction.spread["AD"] == pytest.approx(np.std(shares))
    assert not prediction.warnings


def test_some_of_many_failed(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"")
    assert main(["predict", str(run), str(scan), str(bad), "--out", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert "new_T1w" in captured.out
    assert captured.err.count("\n") == 1 and "bad.nii.gz" in captured.err
    assert not (tmp_path / "out" / "bad").exists()
    assert main(["predict", str(run), str(bad)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_two_scans_of_one_name_do_not_overwrite_each_other(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "elsewhere" / scan.name
    other.parent.mkdir()
    shutil.copy(scan, other)
    assert main(["predict", str(run), str(scan), str(other), "--out", str(tmp_path / "o")]) == 2
    assert "new_T1w" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A run of one's own, to damage."""
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def refused(run: Path, scan: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["predict", str(run), str(scan)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_damaged_models_are_refused(
    copy: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = copy / "model" / "fold-1.safetensors"
    whole = weights.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 4
    for damaged in (bytes(flipped), whole[:-100], b""):
        weights.write_bytes(damaged)
        assert "SHA-256" in refused(copy, scan, capsys)
    weights.unlink()
    assert "is missing" in refused(copy, scan, capsys)


def test_weights_that_are_sealed_but_wrong_are_refused(
    copy: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, run = copy / "model" / "fold-0.safetensors", Run(copy)
    other = build_model(ModelConfig("tiny", width=32))
    save_weights(other, weights)
    run.seal()
    assert "another network" in refused(copy, scan, capsys)
    config = ModelConfig(**Run(copy).card["model"])
    poisoned = build_model(config)
    with torch.no_grad():
        poisoned.head.weight[0, 0] = torch.nan
    save_weights(poisoned, weights)
    run.seal()
    assert "NaN" in refused(copy, scan, capsys) or "finite" in refused(copy, scan, capsys)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 99}, "newer"),
        ({"schema": None}, "is not a model card"),
        ({"grid": None}, ""),
        ({"model": {"backbone": "tiny", "norms": "group"}}, "did you mean 'norm'"),
        ({"members": []}, ""),
        (
            {
                "target": {
                    "columns": ["x"],
                    "classes": {"A": ["1"], "B": ["2"], "C": ["3"]},
                    "regression": False,
                }
            },
            "3 classes",
        ),
    ],
)
def test_foreign_cards_are_refused(
    copy: Path,
    scan: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, object],
    said: str,
) -> None:
    path = copy / "model" / "card.json"
    write_json(path, json.loads(path.read_text()) | change)
    Run(copy).seal()
    assert said in refused(copy, scan, capsys)


def test_not_a_run(tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not a run" in refused(tmp_path, scan, capsys)
    (tmp_path / "config.json").write_text("{}")
    assert "not finished" in refused(tmp_path, scan, capsys)


def test_unknown_class_and_method(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["predict", str(run), str(scan), "--out", str(tmp_path / "o")]
    assert main([*options, "--class", "MCI"]) == 2
    assert "CN, AD" in capsys.readouterr().err
    assert main([*options, "--method", "magic"]) == 2
    assert "grad_cam" in capsys.readouterr().err


def test_read_only_output_is_refused_at_the_start(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["predict", str(run), str(scan), "--out", str(tmp_path / "file" / "o")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_explain_by_every_method(run: Path, scan: Path, tmp_path: Path) -> None:
    from uncus.pipeline.saliency import SALIENCY

    assert main(["explain", str(run), str(scan), "--out", str(tmp_path)]) == 0
    for method in SALIENCY:
        image = nib.load(tmp_path / "new_T1w" / f"saliency_{method}.nii.gz")
        values = image.get_fdata()
        assert np.isfinite(values).all() and np.abs(values).max() > 0
        assert (tmp_path / "new_T1w" / f"saliency_{method}.png").exists()


@pytest.mark.parametrize(
    ("name", "plain"),
    [("a.nii.gz", "a"), ("a.b.nii", "a.b"), ("x.MGZ", "x"), ("s.img", "s"), ("s", "s")],
)
def test_scan_names(name: str, plain: str) -> None:
    assert scan_name(Path("/somewhere") / name) == plain


def test_the_same_scan_as_a_dicom_folder_and_zip(run: Path, scan: Path, tmp_path: Path) -> None:
    image = nib.load(scan)
    stored = np.rint(image.get_fdata()).astype(np.int16)
    whole = tmp_path / "whole_T1w.nii.gz"
    nib.save(nib.Nifti1Image(stored, image.affine), whole)
    folder = save(tmp_path / "series", series(stored, image.affine))
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    scans = [str(whole), str(folder), packed]
    assert main(["predict", str(run), *scans, "--out", str(tmp_path / "out")]) == 0
    first, *others = (tmp_path / "out" / name for name in ("whole_T1w", "series", "packed"))
    expected = json.loads((first / "prediction.json").read_text())["probabilities"]
    for folder in others:
        found = json.loads((folder / "prediction.json").read_text())["probabilities"]
        assert found == pytest.approx(expected, abs=1e-6)
        one, two = in_world(first / "saliency.nii.gz"), in_world(folder / "saliency.nii.gz")
        assert one.keys() == two.keys()
        assert max(abs(value - two[place]) for place, value in one.items()) < 1e-4


def test_the_files_of_a_series_are_one_scan(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = nib.load(scan)
    stored = np.rint(image.get_fdata()).astype(np.int16)
    folder = save(tmp_path / "series", series(stored, image.affine))
    files = sorted(map(str, folder.iterdir()))
    assert main(["predict", str(run), *files, str(scan), "--out", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["new_T1w", "series"]
    said = capsys.readouterr().out
    assert main(["predict", str(run), str(folder)]) == 0
    assert capsys.readouterr().out.strip() in said


def test_a_files_oddity_is_printed_and_kept(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "odd_T1w.nii"
    nib.save(nib.load(scan), odd)
    odd.write_bytes(odd.read_bytes() + bytes(77))
    assert main(["predict", str(run), str(odd), "--out", str(tmp_path / "out")]) == 0
    said = "77 bytes follow the voxels; they were ignored."
    assert f"warning: {said}" in capsys.readouterr().out
    answer = json.loads((tmp_path / "out" / "odd_T1w" / "prediction.json").read_text())
    assert said in answer["warnings"]
