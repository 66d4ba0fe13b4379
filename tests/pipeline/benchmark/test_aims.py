"""The aims and what was reached."""

from tests.pipeline.conftest import parts_of
from uncus.pipeline.benchmark import norm
from uncus.pipeline.benchmark.aims import AIMS, COMPILED, STEP, aims


def test_aims_report_the_worst_value(speed_folder) -> None:
    measured = parts_of(speed_folder)
    parts = {name: {"cpu": part, "gpu": part} for name, part in measured.items()}
    assert {row[3] for row in aims(parts)[1:]} == {"not measured"}  # quick runs do not count
    for part in measured.values():
        part["command"] = "uncus bench"
    measured["norm"]["rows"] = [
        {"shape": list(shape), "times_faster_than": times, "of_copy_bandwidth": share}
        for shape, times, share in zip(
            norm.SHAPES,
            (
                {"eager": 5.0, "compiled": 1.5},
                {"eager": 4.5, "compiled": 1.4},
                {"eager": 2.0, "compiled": 1.2},
                {"eager": 4.6, "compiled": 1.3},
            ),
            (0.65, 0.9, 0.9, 0.3),
            strict=True,
        )
    ]
    measured["step"]["rows"] = steps()
    got = {row[0]: row[2:] for row in aims(parts)[1:]}
    assert len(got) == len(AIMS)
    assert list(got.values())[:7] == [
        ["4.5 x", "yes (3 of 6 cases)"],
        ["1.2 x", "no (4 of 8 cases)"],
        ["65%", "no (1 of 2 cases)"],
        ["2 x", "yes"],
        ["0.9 x", "no"],
        ["0.7", "yes"],
        ["4%", "yes"],
    ]
    assert all(row[1] in {"yes", "no"} for row in list(got.values())[7:])
    only_cpu = {name: {"cpu": part} for name, part in measured.items()}
    assert [row[3] for row in aims(only_cpu)[1:8]] == ["not measured"] * 7


def steps() -> list[dict]:
    """Rows of the part step: all of the aims' cases."""
    times = {"uncus": 10, "uncus, augmented": 10.4, "uncus --compile": 8, "monai": 20}
    times |= {"monai compiled": 12, "monai compiled, graphs": 9}
    return [
        {
            "depth": depth,
            "batch": batch,
            "volume": [128, 128, 128],
            "network": network,
            "step_ms": {"low": 1.0, "high": 1.0, "median": time * depth},
            "peak_mib": 100 if network == "monai" else 70,
            "graphs": False,
        }
        for batch in (1, 2)
        for depth in (18, 50)
        for network, time in times.items()
    ]


def test_a_part_of_an_aims_cases_is_not_the_aim() -> None:
    """Also where a case lacks one of its two networks; other volumes do not count."""
    rows = [r for r in steps() if (r["depth"], r["batch"], r["network"]) != (50, 2, "monai")]
    rows = [r for r in rows if r["batch"] == 2 or r["depth"] == 18]
    rows += [{**row, "volume": [96, 96, 96], "step_ms": {"median": 1e3}} for row in rows]
    got = {row[0]: row[2:] for row in aims({"step": {"gpu": {"command": "", "rows": rows}}})}
    assert got[STEP] == ["2 x", "yes (2 of 4 cases)"]
    assert got[COMPILED] == ["0.9 x", "no (3 of 4 cases)"]
