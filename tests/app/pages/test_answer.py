"""The answer on the page: in full words; of a scan of another domain red, without a class."""

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.test_uploads import File
from tests.pipeline.run_files.cards import CARD
from uncus.app.pages.batch import rows
from uncus.app.sanitize import plain
from uncus.app.uploaded_scan import UploadedScan
from uncus.data import files
from uncus.pipeline.runs import Run

REASON = "it is unlike the run's scans: 2.0 times the limit in the networks' features"


def predicted(inside: bool | None) -> dict[str, Any]:
    """The content of prediction.json."""
    return {
        "class": None if inside is False else "AD",
        "label": None if inside is False else "AD",
        "probabilities": {"CN": 0.1, "AD": 0.9},
        "spread": {"CN": 0.0, "AD": 0.0},
        "members": [{"CN": 0.1, "AD": 0.9}],
        "calibrated": False,
        "warnings": [],
        "domain": {"inside": inside, "reasons": [] if inside else [REASON], "distance": {}},
    }


def shown(result: dict[str, Any], run: Path) -> AppTest:
    """The answer on the page."""

    def page(result: dict[str, object], run: str) -> None:
        from pathlib import Path

        from tests.app.test_uploads import File
        from uncus.app.pages.answer import result as show
        from uncus.app.uploaded_scan import UploadedScan

        scan = UploadedScan(Path(run), [File("a.nii.gz", b"a")])
        scan.prediction = result
        show(scan)
        scan.close()

    return AppTest.from_function(page, args=(result, str(run)), default_timeout=60).run()


@pytest.mark.parametrize("inside", [True, False, None])
def test_the_answer_is_in_full_and_nothing_found_is_not_praised(
    inside: bool | None, tmp_path: Path
) -> None:
    files.write_json(Run(tmp_path).card_path, CARD)
    page = shown(predicted(inside), tmp_path)
    assert not page.exception and not page.success and not page.info
    html = "".join(part.value for part in page.get("html"))
    (title,) = page.subheader
    if inside is False:
        assert title.value == "No answer" and "times the limit" in page.error[0].value
        assert "uncus-axis" not in html and 'class="alarm"' in html
    else:
        assert plain("Alzheimer's-type dementia") == title.value and not page.error
        assert html.count('class="here"') == 1 and "this scan: 0.90" in html
        assert ("passed the checks we have" in html) is bool(inside)


def test_a_batch_names_no_class_for_another_domain() -> None:
    scans = [UploadedScan(Path("run"), [File("a.nii.gz", b"a")]) for _ in range(2)]
    scans[0].prediction, scans[1].prediction = predicted(False), predicted(True)
    other, own = rows(scans)
    assert other["domain"] == "another" and own["domain"] == "the run's"
    assert "AD" not in other and own["AD"] == 0.9
    assert "AD" not in other["answer"] and "AD" in own["answer"]
    assert REASON in other["warnings and errors"] and not own["warnings and errors"]
    for scan in scans:
        scan.close()
