"""Growth charts: the point is the measured volume, and lies where its centile is."""

import re
from dataclasses import replace

import numpy as np
import pytest

from uncus.data.segmentation.centiles import load_curves
from uncus.data.segmentation.correction import Correction
from uncus.data.segmentation.measures import measure
from uncus.data.segmentation.segmentation import Segmentation
from uncus.pipeline.rendering.growth_chart import (
    DARK,
    _charts,
    growth_charts_png,
    growth_charts_svg,
    has_charts,
)

LINES = {
    "hippocampus": Correction(1.25, -0.2, 18, 0.9, 0.05),
    "lateral ventricle": Correction(0.9, 1.0, 18, 0.9, 0.05),
    "brain": Correction(1.0, 0.0, 18, 0.9, 0.05),
}
VOLUMES = {
    "left hippocampus": 2.9752,  # 3.519 ml by DLMUSE, the median of women of 70
    "right hippocampus": 1.4,
    "left amygdala": 1.0,
    "right amygdala": 1.0,
    "left lateral ventricle": 12.0,
    "right lateral ventricle": 60.0,
    "brain": 1148.0,
    "intracranial space": 1300.0,
}
PERSON = Segmentation(np.zeros((1, 1, 1), np.uint8), np.eye(4), VOLUMES, "test", LINES)


def test_curves_are_in_the_measured_volume_and_the_point_is_on_its_centile() -> None:
    figure = _charts(PERSON, 70, "F")
    charts = {axes.get_title(): axes for axes in figure.axes}
    *curves, point = charts["left hippocampus"].lines
    assert len(curves) == 5
    (x,), (y,) = point.get_data()
    assert (x, y) == (70, 2.9752)
    ages, median = curves[2].get_data()
    assert np.interp(70, ages, median) == pytest.approx(2.9752, abs=1e-3)
    rows = {row["region"]: row for row in measure(PERSON, 70, "F")["regions"]}
    assert rows["left hippocampus"]["centile"] == pytest.approx(50, abs=0.2)
    assert (
        rows["right hippocampus"]["centile"] == 5 and rows["right hippocampus"]["volume_ml"] == 1.4
    )


def test_a_point_far_outside_the_curves_is_inside_the_chart() -> None:
    for axes in _charts(PERSON, 90, "F").axes:
        if axes.lines and axes.get_title() in VOLUMES:
            low, high = axes.get_ylim()
            assert low < VOLUMES[axes.get_title()] < high


def test_a_structure_without_a_good_correction_has_no_chart() -> None:
    loose = replace(PERSON, corrections={**LINES, "brain": Correction(1.0, 0.0, 18, 0.5, 0.3)})
    charts = {axes.get_title(): axes for axes in _charts(loose, 70, "F").axes}
    assert not charts["left amygdala"].lines and not charts["brain"].lines
    assert charts["left hippocampus"].lines


def test_light_and_dark_svg_and_png() -> None:
    light, dark = (growth_charts_svg(PERSON, 70, "F", mode) for mode in (False, True))
    assert light == growth_charts_svg(PERSON, 70, "F") and light != dark
    assert not DARK.keys() & set(re.findall("(?<=: )#[0-9a-f]{6}", dark)), (
        "no color of a light page"
    )
    assert light.startswith("<svg") and "by age" in light and "#e6eaed" in dark
    assert growth_charts_png(PERSON, 70, "F").startswith(b"\x89PNG")


def test_who_has_charts() -> None:
    men = load_curves()["M", "brain"].ages[-1]
    assert has_charts(PERSON, 70, "F") and has_charts(PERSON, men, "M")
    for age, sex in ((None, "F"), (70, ""), (39, "F"), (men + 1, "M")):
        assert not has_charts(PERSON, age, sex)
    assert not has_charts(None, 70, "F")
    assert not has_charts(replace(PERSON, corrections={}), 70, "F")


@pytest.mark.parametrize("age", [41, 70, 92])
def test_labels_stay_off_the_axis_and_each_other(age: float) -> None:
    figure = _charts(PERSON, age, "F")
    figure.canvas.draw()
    for axes in figure.axes:
        person, *numbers = [text.get_window_extent() for text in axes.texts] or [None]
        if person is None:
            continue
        assert person.x0 >= axes.get_window_extent().x0
        boxes = [person, *numbers]
        for index, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:index])
