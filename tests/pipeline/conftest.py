"""One quick benchmark that several tests share."""

import json

import pytest

from uncus.pipeline import cli


@pytest.fixture(scope="session")
def speed_folder(tmp_path_factory):
    """speed.json and speed.md with every part that a CPU can measure."""
    out = tmp_path_factory.mktemp("speed")
    assert (
        cli.main(["bench", "--device", "cpu", "--quick", "--rounds", "2", "--out", str(out)]) == 0
    )
    assert {path.name for path in out.iterdir()} == {"speed.json", "speed.md"}
    return out


def parts_of(folder) -> dict:
    """The results measured on a CPU."""
    results = json.loads((folder / "speed.json").read_text())
    return {name: part["cpu"] for name, part in results.items() if name != "format"}
