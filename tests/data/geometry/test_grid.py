"""Grids cover their box and survive a round trip through JSON."""

import json

import numpy as np
import pytest

from uncus.data.geometry.grid import Grid

GRID = Grid(
    (22, 27, 19), np.array([[3.0, 0, 0, -31], [0, 3, 0, -40], [0, 0, 3, -26], [0, 0, 0, 1]])
)


def test_a_grid_covers_its_box_with_no_voxel_to_spare() -> None:
    low, high = np.array([-70.0, -30.5, -57]), np.array([68.0, -20.5, 81])
    grid = Grid.from_box(low, high, np.array([2.0, 1, 2]))
    assert grid.shape == (69, 10, 69) and grid.spacing == (2, 1, 2)
    np.testing.assert_allclose(grid.affine[:3, 3], (-69, -30, -56))
    wider = Grid.from_box(low, high + 0.1, np.array([2.0, 1, 2]))
    assert wider.shape == (70, 11, 70)


def test_a_grid_survives_json() -> None:
    assert Grid.from_dict(json.loads(json.dumps(GRID.as_dict()))) == GRID
    with pytest.raises(ValueError, match="not a grid"):
        Grid.from_dict({"shape": [2, 2], "affine": np.eye(4).tolist()})
    oblique = np.eye(4)
    oblique[0, 1] = 0.1
    with pytest.raises(ValueError, match="not a grid"):
        Grid.from_dict({"shape": [2, 2, 2], "affine": oblique.tolist()})
