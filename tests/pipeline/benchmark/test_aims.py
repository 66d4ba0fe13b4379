"""The aims and what was reached."""

from tests.pipeline.conftest import parts_of
from uncus.pipeline.benchmark.aims import AIMS, aims


def test_aims_report_the_worst_value(speed_folder) -> None:
    measured = parts_of(speed_folder)
    parts = {name: {"cpu": part, "gpu": part} for name, part in measured.items()}
    assert {row[3] for row in aims(parts)[1:]} == {"not measured"}  # quick runs do not count
    ms = {"low": 1.0, "high": 1.0}
    for part in measured.values():
        part["command"] = "uncus bench"
    measured["norm"]["rows"] = [
        {"shape": [n, 8, size, size, size], "times_faster_than": times, "of_copy_bandwidth": share}
        for n, size, times, share in (
            (1, 9, {"eager": 5.0, "compiled": 1.5}, 0.65),
            (1, 8, {"eager": 4.5, "compiled": 1.4}, 0.9),
            (2, 4, {"eager": 2.0, "compiled": 1.2}, 0.9),
        )
    ]
    times = {"uncus": 10, "uncus, augmented": 10.4, "uncus graphs": 8, "monai": 20}
    measured["step"]["rows"] = [
        {
            "depth": depth,
            "batch": 1,
            "volume": [128, 128, 128],
            "network": network,
            "step_ms": {**ms, "median": time * depth},
            "peak_mib": 100 if network == "monai" else 70,
        }
        for depth in (18, 50)
        for network, time in {**times, "monai compiled": 9}.items()
    ]
    got = {row[0]: row[2:] for row in aims(parts)[1:]}
    assert len(got) == len(AIMS)
    assert list(got.values())[:7] == [
        ["4.5 x", "yes"],
        ["1.2 x", "no"],
        ["65%", "no"],
        ["2 x", "yes"],
        ["1.12 x", "yes"],
        ["0.7", "yes"],
        ["4%", "yes"],
    ]
    assert all(row[1] in {"yes", "no"} for row in list(got.values())[7:])
    only_cpu = {name: {"cpu": part} for name, part in measured.items()}
    assert [row[3] for row in aims(only_cpu)[1:8]] == ["not measured"] * 7
