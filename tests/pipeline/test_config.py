"""Options survive a round trip through JSON; anything else is an error that names the key."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from uncus.data.errors import BadInput
from uncus.pipeline.config import from_dict, to_dict


@dataclass(frozen=True)
class Inner:
    size: int = 3

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size={self.size}: must be at least 1")


@dataclass(frozen=True)
class Outer:
    folder: Path = Path()
    names: tuple[str, ...] = ()
    rate: float = 0.1
    count: int = 1
    on: bool = False
    mode: Literal["one", "two"] = "one"
    other: Path | None = None
    inner: Inner = field(default_factory=Inner)


FULL = Outer(Path("a/b"), ("x", "$import os"), 2.0, 7, True, "two", Path("!!python"), Inner(5))


@pytest.mark.parametrize("config", [Outer(), FULL])
def test_round_trip_through_json(config: Outer) -> None:
    assert from_dict(Outer, json.loads(json.dumps(to_dict(config))), "file") == config


def test_a_missing_key_takes_its_default_and_a_whole_number_is_a_float() -> None:
    config = from_dict(Outer, {"rate": 2}, "file")
    assert config == Outer(rate=2.0)
    assert isinstance(config.rate, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"foldr": "x"}, "unknown key 'foldr'; did you mean 'folder'?"),
        ({"zzz": 1}, "unknown key 'zzz'; known: folder, names"),
        ({"inner": {"siz": 1}}, "inner: unknown key 'siz'; did you mean 'size'?"),
        ({"count": "7"}, "count: '7' is not of type int"),
        ({"count": 7.0}, "count: 7.0 is not of type int"),
        ({"count": 10**30}, "is not of type int"),
        ({"count": True}, "count: True is not of type int"),
        ({"count": None}, "count: None is not of type int"),
        ({"rate": 10**400}, "int too large to convert to float; correct the file"),
        ({"rate": True}, "rate: True is not of type float"),
        ({"rate": "0.1"}, "rate: '0.1' is not of type float"),
        ({"on": 1}, "on: 1 is not of type bool"),
        ({"names": "x"}, "names: 'x' is not of type"),
        ({"names": ["x", 2]}, "names: 2 is not of type str"),
        ({"mode": "three"}, "mode: 'three' is not of type"),
        ({"other": 3}, "other: 3 is not of type Path"),
        ({"inner": 3}, "inner: contains a int, not options"),
        ({"inner": {"size": 0}}, "inner: size=0: must be at least 1"),
        ([1, 2], "contains a list, not options"),
        (None, "contains a NoneType, not options"),
    ],
)
def test_the_error_names_the_key(values: Any, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        from_dict(Outer, values, "RUN/config.json")
    line = str(caught.value)
    assert line.startswith("RUN/config.json: ")
    assert message in line
    assert "\n" not in line
