"""Pictures: the right slice, the right side, nothing hidden."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from uncus.pipeline.rendering.slices import (
    View,
    draw_plane,
    montage,
    save_png,
    spacings,
    three_planes,
)

AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])
AFFINE[:3, 3] = (-20, -30, -40)


def volume():
    array = np.zeros((20, 24, 18), dtype=np.float32)
    array[4:16, 5:20, 3:14] = 1
    array[12:15, 8:12, 6:9] = 3  # a bright block in the right half of the brain
    return array


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def test_planes_pass_through_the_point_in_millimetres():
    view = View(volume(), AFFINE, at=(-20 + 2 * 13, -30 + 3 * 10, -40 + 4 * 7))
    assert view.voxel() == (13, 10, 7)
    far = View(volume(), AFFINE, at=(1e4, -1e4, 0))
    assert far.voxel()[:2] == (19, 0)  # kept inside


def test_planes_pass_through_the_heat_or_the_brain():
    heat = np.zeros_like(volume())
    heat[14, 9, 7] = -5  # strongest, though negative
    assert View(volume(), AFFINE, overlay=heat).voxel() == (14, 9, 7)
    x, y, z = View(volume(), AFFINE).voxel()
    assert 8 <= x <= 11 and 11 <= y <= 13 and 7 <= z <= 9
    assert View(np.zeros((5, 5, 5)), AFFINE).voxel() == (2, 2, 2)


def test_framing_moves_no_voxel_in_the_world():
    view = View(volume(), AFFINE, outlines={"red": volume() > 2}, at=(6.0, 0.0, -12.0))
    framed = view.framed()
    assert framed.volume.size < view.volume.size
    assert framed.volume[framed.voxel()] == view.volume[view.voxel()] == 3
    back = np.rint(np.linalg.solve(AFFINE, framed.affine[:, 3])[:3]).astype(int)
    box = tuple(slice(b, b + n) for b, n in zip(back, framed.volume.shape, strict=True))
    np.testing.assert_array_equal(view.volume[box], framed.volume)
    np.testing.assert_array_equal(view.outlines["red"][box], framed.outlines["red"])
    assert view.volume.sum() == framed.volume.sum()


def test_left_is_on_the_right_and_is_called_so():
    """The block lies at high x, the subject's right (RAS+), so on the picture's left."""
    figure = three_planes(volume(), AFFINE, at=(6.0, 0.0, -12.0))
    for place in figure.axes[1:3]:
        image = place.images[0].get_array()
        columns = np.where((image == 3).any(axis=0))[0]
        assert columns.mean() < image.shape[1] / 2
        letters = {t.get_text(): t.get_position()[0] for t in place.texts}
        assert letters["R"] < 0.5 < letters["L"]


def test_millimetres_have_one_scale_in_every_plane():
    figure = three_planes(volume(), AFFINE)
    assert [place.get_aspect() for place in figure.axes[:3]] == [4 / 3, 4 / 2, 3 / 2]
    np.testing.assert_allclose(spacings(AFFINE), (2, 3, 4))


def test_weak_heat_lets_the_brain_through_and_strong_heat_shows():
    view = View(volume(), AFFINE)
    plain = pixels(three_planes(view.volume, AFFINE, at=(6, 0, -12)))
    heat = np.full_like(volume(), 1e-3)
    heat[12:15, 8:12, 6:9] = 1
    hot = pixels(three_planes(view.volume, AFFINE, heat, at=(6, 0, -12)))
    red = (hot[..., 0].astype(int) - hot[..., 2]) > 60
    assert red.any()
    assert not ((plain[..., 0].astype(int) - plain[..., 2]) > 60).any()


def test_signed_heat_gets_two_colours():
    heat = np.zeros_like(volume())
    heat[6:8, 9:11, 7] = -1
    heat[12:14, 9:11, 7] = 1
    shot = pixels(three_planes(volume(), AFFINE, heat, at=(-20 + 2 * 7, 0, -12))).astype(int)
    assert (shot[..., 0] - shot[..., 2] > 40).any() and (shot[..., 2] - shot[..., 0] > 40).any()


def test_outline_is_drawn_and_a_constant_or_empty_heat_is_no_error():
    shot = pixels(three_planes(volume(), AFFINE, np.zeros_like(volume()), outline=volume() > 2))
    assert (shot[..., 2].astype(int) - shot[..., 0] > 80).any()
    pixels(three_planes(np.zeros((6, 6, 6)), np.eye(4)))


def test_titles_are_text_not_markup():
    pixels(three_planes(volume(), AFFINE, title="$\\frac{</b>_scan_1$"))


def test_montage_holds_every_view():
    figure = montage([View(volume(), AFFINE, title=str(i)) for i in range(5)], columns=2)
    drawn = [place for cell in figure.subfigs for place in cell.axes]
    assert len(drawn) == 15
    pixels(figure)


def test_maps_on_another_grid_are_refused():
    with pytest.raises(ValueError, match="same grid"):
        View(volume(), AFFINE, overlay=np.zeros((2, 2, 2)))


def test_planes_can_be_drawn_alone():
    place = Figure().subplots()
    assert draw_plane(place, View(volume(), AFFINE), 2) is None
    assert len(place.images) == 1


def test_saved_pictures_are_small_and_look_the_same(tmp_path):
    figure = three_planes(volume(), AFFINE, outline=volume() > 2)
    save_png(figure, tmp_path / "picture.png")
    saved = np.asarray(Image.open(tmp_path / "picture.png").convert("RGB")).astype(int)
    assert np.abs(saved - pixels(figure)).mean() < 2
    assert (tmp_path / "picture.png").stat().st_size < 40_000
