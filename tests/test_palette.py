from __future__ import annotations

import pytest

from kdtui.palette import COLOUR, class_colours, contrast, hexadecimal, parse, visible


@pytest.mark.parametrize("count", [2, 3, 11, 21, 150])
def test_every_class_is_seen_on_a_dark_and_on_a_light_ground(count: int) -> None:
    for colour in class_colours([""] * count):
        for ground in ("#121212", "#1e1e1e", "#f4f4f4", "#ebebeb"):
            assert contrast(colour, parse(ground)) >= 3.0


@pytest.mark.parametrize("count", [2, 3, 11, 21])
def test_no_two_classes_have_one_colour(count: int) -> None:
    assert len(set(class_colours([""] * count))) == count


def test_a_custom_colour_is_used_unchanged() -> None:
    colours = class_colours(["#804080", "", "#FFffFF"])
    assert (colours[0], colours[2]) == ((128, 64, 128), (255, 255, 255))
    assert all(COLOUR.fullmatch(hexadecimal(colour)) and parse(hexadecimal(colour)) == colour for colour in colours)


@pytest.mark.parametrize("ground", ["#121212", "#1e1e1e", "#f4f4f4", "#ebebeb"])
def test_a_custom_colour_has_contrast_on_every_background_and_is_otherwise_kept(ground: str) -> None:
    for colour in ("#000000", "#ffffff", "#000080", "#ffff00", "#804080", "#7f7f7f"):
        shown = visible(parse(colour), parse(ground))
        assert contrast(shown, parse(ground)) >= 3.0
        if contrast(parse(colour), parse(ground)) >= 3.0:
            assert shown == parse(colour)
