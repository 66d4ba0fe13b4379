"""Reading and augmentation at the quick size."""

import pytest

from tests.pipeline.conftest import parts_of


def test_data_compares_the_same_epoch(speed_folder) -> None:
    part = parts_of(speed_folder)["data"]
    assert [row["source"].split()[0] for row in part["rows"]] == ["uncus", "monai", "monai"]
    for row in part["rows"]:
        assert row["scans_a_second"] == pytest.approx(1e3 / row["ms"]["median"])
    assert part["augment_ms"]["median"] > 0
