"""The page Predict: the bundled example is of the run's domain."""

from pathlib import Path

import nibabel as nib
import pytest

from tests.pipeline.run_files.cards import CARD
from uncus.data import files
from uncus.pipeline.runs import Run

pytest.importorskip("streamlit", reason="the page needs the extra 'app'")

from uncus.app.pages.predict import HEAD, PHANTOM, bundled, example_of


@pytest.mark.parametrize("synthetic", [True, False, None])
def test_the_example_is_like_the_scans_of_the_run(synthetic: bool | None, tmp_path: Path) -> None:
    run = Run(tmp_path)
    domain = {"scans": 9, "scanner": {}} | ({} if synthetic is None else {"synthetic": synthetic})
    files.write_json(run.card_path, {**CARD, "domain": domain})
    example = example_of(run)
    assert example is (HEAD if synthetic is False else PHANTOM)
    assert example.scan.with_name(f"{example.stem}.png").read_bytes().startswith(b"\x89PNG")
    scan = bundled(example, run, {"age": 30.0})
    assert scan.name == example.name and scan.covariates == {"age": 30.0}
    image = nib.load(scan.source)
    assert example is PHANTOM or image.header.get_zooms() == pytest.approx((2, 2, 2))
    scan.close()
