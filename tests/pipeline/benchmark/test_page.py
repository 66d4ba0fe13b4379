"""The page of results."""

import json

from tests.pipeline.conftest import parts_of
from uncus.pipeline.bench import PARTS
from uncus.pipeline.benchmark.page import markdown, notes


def test_the_page_reports_results_and_what_is_missing(speed_folder) -> None:
    page = (speed_folder / "speed.md").read_text()
    results = json.loads((speed_folder / "speed.json").read_text())
    assert page == markdown(results)
    parts = parts_of(speed_folder)
    assert parts.keys() == set(PARTS) - {"tune"}
    for part in parts.values():
        assert part["device"] in page
        assert part["versions"]["torch"] in page
        assert part["date"] in page
        assert part["command"] in page
    assert parts["norm"]["kernels"] is None
    assert "These are not the kernels" in page
    assert "Not yet measured on a GPU" in page
    both = {name: {"cpu": part, "gpu": {**part, "device": "H1"}} for name, part in parts.items()}
    assert "Not yet measured on a GPU" not in markdown(both)
    assert markdown(both).count("\nH1; ") == len(parts)
    assert markdown({}).count("Not measured yet") == len(PARTS)


def test_the_page_names_what_is_missing_or_out_of_date(speed_folder) -> None:
    part = parts_of(speed_folder)["norm"]
    case = {"shape": [1, 8], "layout": "contiguous"}
    assert notes(part) == []
    missing = {**part, "measured": 2, "stale": [case], "faults": ["cuDNN 9.10 is slow"]}
    missing["failed"] = [{"case": {"copy_gb": 2}, "why": "RuntimeError: no copying here"}]
    assert [line for line in notes(missing) if line] == [
        "Of these versions: cuDNN 9.10 is slow.",
        "2 of 5 cases are measured so far.",
        "Measured with other code or kernel settings than now: shape [1, 8], layout contiguous.",
        "Not measured: copy_gb 2: RuntimeError: no copying here.",
    ]
