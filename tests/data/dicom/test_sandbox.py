"""The child process is limited in time and memory."""

from pathlib import Path

import pytest

from tests.dicom_files import save, series
from uncus.data.dicom.reader import read_series
from uncus.data.dicom.sandbox import ProcessLimits
from uncus.data.errors import BadInput


def test_the_child_process_is_limited(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", series())
    with pytest.raises(BadInput, match=r"more than 0\.01 s to decode"):
        read_series([folder], limits=ProcessLimits(seconds=0.01))
    with pytest.raises(BadInput, match=r"memory|crash"):
        read_series([folder], limits=ProcessLimits(memory=1 << 27))
