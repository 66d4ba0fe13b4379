"""``uncus predict``: scans in every storage order and format, damaged models, errors."""

import io
import json
import os
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from tests.dicom_files import save, series
from uncus import NOTICE
from uncus.data.files import write_json
from uncus.data.tables import read_table
from uncus.models.build import ModelConfig, build_model
from uncus.models.weights import save_weights
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run


def stored_as(path: Path, codes: str, folder: Path) -> Path:
    """The same scan with its voxels in a different order."""
    image = nib.load(path)
    change = ornt_transform(io_orientation(image.affine), axcodes2ornt(codes))
    reoriented = image.as_reoriented(change)
    assert np.allclose(reoriented.affine, image.affine @ inv_ornt_aff(change, image.shape))
    out = folder / f"{codes}_T1w.nii.gz"
    nib.save(reoriented, out)
    return out


def in_world(path: Path) -> dict[tuple[int, ...], float]:
    """Voxel centre in mm -> value."""
    image = nib.load(path)
    voxels = np.indices(image.shape).reshape(3, -1)
    centres = np.rint(image.affine[:3, :3] @ voxels + image.affine[:3, 3:]).astype(int)
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
    assert max(abs(value - two[mm]) for mm, value in one.items()) < 1e-4
    assert max(map(abs, one.values())) > 0.1


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


def test_scans_of_the_same_name_do_not_overwrite_each_other(
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
    """A copy of the run, to damage."""
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def error_of(run: Path, scan: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["predict", str(run), str(scan)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_damaged_models_are_rejected(
    copy: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = copy / "model" / "fold-1.safetensors"
    whole = weights.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 4
    for damaged in (bytes(flipped), whole[:-100], b""):
        weights.write_bytes(damaged)
        assert "SHA-256" in error_of(copy, scan, capsys)
    weights.unlink()
    assert "is missing" in error_of(copy, scan, capsys)


def test_sealed_but_wrong_weights_are_rejected(
    copy: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, run = copy / "model" / "fold-0.safetensors", Run(copy)
    other = build_model(ModelConfig("tiny", width=32))
    save_weights(other, weights)
    run.seal()
    assert "another network" in error_of(copy, scan, capsys)
    config = ModelConfig(**Run(copy).card["model"])
    poisoned = build_model(config)
    with torch.no_grad():
        poisoned.head.weight[0, 0] = torch.nan
    save_weights(poisoned, weights)
    run.seal()
    assert "NaN" in error_of(copy, scan, capsys) or "finite" in error_of(copy, scan, capsys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "newer"),
        ({"schema": None}, "is not a model card"),
        ({"grid": None}, ""),
        ({"model": {"backbone": "tiny", "norm": "group", "norms": "group"}}, "did you mean 'norm'"),
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
def test_invalid_cards_are_rejected(
    copy: Path,
    scan: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, object],
    message: str,
) -> None:
    path = copy / "model" / "card.json"
    write_json(path, json.loads(path.read_text()) | change)
    Run(copy).seal()
    assert message in error_of(copy, scan, capsys)


def test_not_a_run(tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not a run" in error_of(tmp_path, scan, capsys)
    (tmp_path / "config.json").write_text("{}")
    assert "not finished" in error_of(tmp_path, scan, capsys)


def test_unknown_class_and_method(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["predict", str(run), str(scan), "--out", str(tmp_path / "o")]
    assert main([*options, "--class", "MCI"]) == 2
    assert "CN, AD" in capsys.readouterr().err
    assert main([*options, "--method", "magic"]) == 2
    assert "grad_cam" in capsys.readouterr().err


def test_output_that_cannot_be_written_is_rejected_at_the_start(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["predict", str(run), str(scan), "--out", str(tmp_path / "file" / "o")]) == 2
    assert "cannot be written" in capsys.readouterr().err


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
        probabilities = json.loads((folder / "prediction.json").read_text())["probabilities"]
        assert probabilities == pytest.approx(expected, abs=1e-6)
        one, two = in_world(first / "saliency.nii.gz"), in_world(folder / "saliency.nii.gz")
        assert one.keys() == two.keys()
        assert max(abs(value - two[mm]) for mm, value in one.items()) < 1e-4


def test_the_files_of_a_series_are_one_scan(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = nib.load(scan)
    stored = np.rint(image.get_fdata()).astype(np.int16)
    folder = save(tmp_path / "series", series(stored, image.affine))
    files = sorted(map(str, folder.iterdir()))
    assert main(["predict", str(run), *files, str(scan), "--out", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "new_T1w",
        "predictions.tsv",
        "series",
    ]
    printed = capsys.readouterr().out
    assert main(["predict", str(run), str(folder)]) == 0
    assert capsys.readouterr().out.strip() in printed


def test_a_files_oddity_is_printed_and_kept(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "odd_T1w.nii"
    nib.save(nib.load(scan), odd)
    odd.write_bytes(odd.read_bytes() + bytes(77))
    assert main(["predict", str(run), str(odd), "--out", str(tmp_path / "out")]) == 0
    warning = "77 bytes follow the voxels; they were ignored."
    assert f"warning: {warning}" in capsys.readouterr().out
    answer = json.loads((tmp_path / "out" / "odd_T1w" / "prediction.json").read_text())
    assert warning in answer["warnings"]


def test_several_scans_get_one_table(run: Path, scan: Path, tmp_path: Path) -> None:
    bad, out = tmp_path / "bad.nii.gz", tmp_path / "out"
    bad.write_bytes(b"")
    assert main(["predict", str(run), str(scan), str(bad), "--out", str(out)]) == 1
    table = read_table(out / "predictions.tsv")
    written = json.loads((out / "new_T1w" / "prediction.json").read_text())
    assert list(table["scan"]) == ["new_T1w", "bad"]
    assert float(table["p_AD"][0]) == pytest.approx(written["probabilities"]["AD"])
    assert (table["label"][0], table["label"][1]) == (written["label"], "")
    assert table["error"][0] == "" and "bad.nii.gz" in table["error"][1]
    assert main(["predict", str(run), str(scan), "--out", str(tmp_path / "one")]) == 0
    assert not (tmp_path / "one" / "predictions.tsv").exists()


@pytest.mark.parametrize("shared", ["in its run", "alone", "named from inside"])
def test_the_model_folder_is_enough(
    run: Path,
    scan: Path,
    tmp_path: Path,
    shared: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["predict", str(run), str(scan), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    named = str(run / "model")
    if shared == "alone":
        named = str(shutil.copytree(run / "model", tmp_path / "adni"))
        expected["model"]["run"] = "adni"
    elif shared == "named from inside":
        monkeypatch.chdir(run / "model")
        named = "."
    assert main(["predict", named, str(scan), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == expected


def test_names_in_other_encodings_and_terminals_in_ascii(
    run: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of an old archive, a folder called .nii: the other scans are predicted."""
    old = tmp_path / os.fsdecode(b"scan_\xe9.nii.gz")
    shutil.copy(scan, old)
    (tmp_path / "folder.nii").mkdir()
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    scans = [str(old), str(tmp_path / "folder.nii"), str(scan)]
    assert main(["predict", str(run), *scans, "--out", str(tmp_path / "out")]) == 1
    printed, errors = (stream.buffer.getvalue().decode("ascii") for stream in flushed(streams))
    assert [line.split(":")[0] for line in printed.splitlines() if "over 2 networks" in line] == [
        "scan_?.nii.gz",
        "new_T1w.nii.gz",
    ]
    assert errors.splitlines()[-1].endswith("folder.nii: not a file; check the path")
    written = json.loads((tmp_path / "out" / old.name[:-7] / "prediction.json").read_text())
    assert written["scan"] == "scan_\ufffd.nii.gz"
    assert (tmp_path / "out" / old.name[:-7] / "saliency.png").is_file()
    assert "scan_\ufffd\t" in (tmp_path / "out" / "predictions.tsv").read_text(encoding="utf-8")


def flushed(streams: list[io.TextIOWrapper]) -> list[io.TextIOWrapper]:
    for stream in streams:
        stream.flush()
    return streams
