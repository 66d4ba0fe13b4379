"""The search for kernel settings."""

from uncus.pipeline import cli
from uncus.pipeline.benchmark import tune


def test_tuning_ends_where_no_single_change_is_faster() -> None:
    tried: list[tuple[int, int]] = []

    def cost(point: dict[str, int]) -> float:
        tried.append((point["a"], point["b"]))
        return 1 + (point["a"] - 4) ** 2 + 0.1 * (point["b"] - point["a"]) ** 2

    grid = {"a": (1, 2, 4, 8), "b": (1, 2, 4, 8)}
    assert tune.search(cost, {"a": 1, "b": 1}, grid) == {"a": 4, "b": 4}
    assert len(tried) == len(set(tried))
    assert tune.search(lambda point: 1.0, {"a": 2, "b": 8}, grid) == {"a": 2, "b": 8}


def test_tuning_needs_kernels(capsys) -> None:
    assert cli.main(["bench", "tune", "--device", "cpu"]) == 2
    assert "use a GPU" in capsys.readouterr().err
