"""The page of a scan of another domain: red, without a class or probabilities."""

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.test_uploads import File
from uncus.app.pages.batch import rows
from uncus.app.uploaded_scan import UploadedScan

REASON = "it is unlike the run's scans: 2.0 times the limit in the networks' features"


def predicted(inside: bool | None) -> dict[str, Any]:
    """The content of prediction.json."""
    return {
        "class": "AD" if inside else None,
        "label": "AD" if inside else None,
        "probabilities": {"CN": 0.1, "AD": 0.9},
        "spread": {"CN": 0.0, "AD": 0.0},
        "members": [{"CN": 0.1, "AD": 0.9}],
        "calibrated": False,
        "warnings": [],
        "domain": {"inside": inside, "reasons": [] if inside else [REASON], "distance": {}},
    }


def shown(result: dict[str, Any]) -> AppTest:
    """The part of the page about the domain."""

    def page(result: dict[str, object]) -> None:
        from uncus.app.pages.answer import domain

        domain(result)

    return AppTest.from_function(page, args=(result,)).run()


@pytest.mark.parametrize(("inside", "kind"), [(True, "info"), (False, "error"), (None, "info")])
def test_the_domain_in_its_color(inside: bool | None, kind: str) -> None:
    page = shown(predicted(inside))
    found = {
        name: [one.value for one in getattr(page, name)] for name in ("success", "error", "info")
    }
    (text,) = found.pop(kind)
    assert not page.exception and not any(found.values())
    assert ("times the limit" in text) == (not inside)


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
