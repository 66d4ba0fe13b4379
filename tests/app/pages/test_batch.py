"""Several scans: a ticked row, and what the table says."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from tests.app.test_uploads import File
from tests.pipeline.prediction.test_scan_report import VOLUMES
from uncus.app.uploaded_scan import UploadedScan

pytest.importorskip("streamlit", reason="the page needs the extra 'app'")

from uncus.app.pages import batch


def test_a_ticked_row_opens_its_full_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scans = [UploadedScan(tmp_path, [File(f"{k}.nii", b"0")], several=True) for k in range(2)]
    alone = UploadedScan(tmp_path, [File("alone.nii", b"0")])
    state: dict[str, Any] = {"batches": 1, "batch": scans, "scan": alone}
    state["table-1"] = {"selection": {"rows": [1]}}
    monkeypatch.setattr(batch.st, "session_state", state)
    batch.open_selected()
    assert state["scan"] is scans[1] and state[batch.TABS] == batch.ONE
    assert not Path(alone.folder.name).exists() and Path(scans[0].folder.name).exists()
    state["table-1"] = {"selection": {"rows": [0]}}
    batch.open_selected()
    assert state["scan"] is scans[0] and Path(scans[1].folder.name).exists()
    for scan in scans:
        scan.close()


def test_what_cannot_be_answered_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    refused, answered = (UploadedScan(tmp_path, [File(f"{k}.nii", b"0")]) for k in range(2))
    refused.error, answered.error = "is a CT; export the MRI", ""
    member = {"CN": 0.4567, "AD": 0.5433}
    answered.prediction = {
        "label": None,
        "abstains": "AD and CN both fit",
        "probabilities": member,
        "spread": {"CN": 0.01, "AD": 0.01},
        "members": [member, member],
        "warnings": ["one", "two"],
        "volumes": VOLUMES,
    }
    shown = batch.shown([refused, answered])
    assert shown.loc[0].tolist()[:3] == ["0.nii", "failed", "Refused: is a CT; export the MRI"]
    assert set(shown.loc[0].tolist()[3:]) == {""}
    both = "Alzheimer's-type dementia and cognitively normal both fit"
    assert shown.loc[1, "answer"] == f"Cannot tell: {both}."
    assert shown.loc[1, "probability of Alzheimer's-type dementia"] == "0.54 ± 0.01"
    assert shown.loc[1, "left hippocampus, ml"] == "2.46"
    assert not {name for name in shown if "_" in name or name in member}, "words"
    assert batch.messages(answered) == f"{both}; one; two"
    cells = next(csv.DictReader(io.StringIO(batch.to_csv([answered]))))
    assert cells["ml_left_hippocampus"] and cells["AD"] == "0.5433", "names for programs"
    for scan in (refused, answered):
        scan.close()
