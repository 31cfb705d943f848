"""Colours for categories that bring none of their own."""

import colorsys

from maskline.results import BACKGROUND_ID, AnnotationSpec

BACKGROUND = AnnotationSpec(id=BACKGROUND_ID, display_name="background", color="#000000")

_GOLDEN_RATIO = 0.618033988749895  # steps of this spread hues evenly, however many there are
_FIRST_HUE = 0.02
_TONES = ((0.78, 0.95), (0.55, 1.0), (0.9, 0.72), (0.45, 0.82))  # saturation and value, in turn


def distinct_color(index: int) -> str:
    """``#rrggbb`` of the category with this id, 1 or more; always the same, and no two near ones alike."""
    hue = (_FIRST_HUE + (index - 1) * _GOLDEN_RATIO) % 1
    saturation, value = _TONES[(index - 1) // 8 % len(_TONES)]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def rgb(color: str) -> tuple[int, int, int]:
    """The channels of ``#rrggbb``, 0..255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def annotation_specs(labels: list[str]) -> tuple[AnnotationSpec, ...]:
    """Background, then a spec for each label, in this order, with ids from 1."""
    return (
        BACKGROUND,
        *(
            AnnotationSpec(id=i, display_name=label, color=distinct_color(i))
            for i, label in enumerate(labels, 1)
        ),
    )
