"""Several scans: a ticked row, and what the table says."""

from pathlib import Path
from typing import Any

import pytest

from tests.app.test_uploads import File
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
    answered.prediction = {
        "label": None,
        "abstains": "both fit",
        "probabilities": {"CN": 0.4567, "AD": 0.5433},
        "spread": {"CN": 0.01, "AD": 0.01},
        "warnings": ["one", "two"],
    }
    shown = batch.shown([refused, answered])
    assert shown.loc[0].tolist()[:4] == ["0.nii", "failed", "", "none: is a CT; export the MRI"]
    assert set(shown.loc[0].tolist()[4:]) == {""} and shown.loc[1, "AD"] == "0.54"
    assert batch.messages(answered) == "one; two"
    for scan in (refused, answered):
        scan.close()
