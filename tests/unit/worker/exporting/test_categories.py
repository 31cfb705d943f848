"""The categories of a batch, whose items number their labels themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskline.results import AnnotationSpec
from tests.labelled_images import drawn, labelled
from worker.colors import annotation_specs
from worker.exporting.categories import CategoryTable, TooManyCategories, category_name
from worker.exporting.labelled_image import LabelledImage

NAMES = st.lists(st.text(max_size=8), min_size=1, max_size=6, unique=True)


def image_of(names: list[str]) -> LabelledImage:
    """A column for each name, behind one of background."""
    masks = np.eye(len(names) + 1, dtype=bool)[1:, None]
    segments = [(name, mask, 0.5) for name, mask in zip(names, masks, strict=True)]
    return labelled(1, "a", drawn((1, len(names) + 1), segments))


@given(st.lists(NAMES, min_size=1, max_size=5))
def test_a_pixel_keeps_its_category(items: list[list[str]]) -> None:
    table = CategoryTable()
    given_then = []
    for names in items:
        image = image_of(names)
        given_then.append((names, table.ids_of_image(image)[image.category_mask()]))
    named = {category.id: category.display_name for category in table}
    assert list(named) == list(range(1, len(table) + 1))
    assert len(set(named.values())) == len(table)
    assert len({category.color for category in table} | {"#000000"}) == len(table) + 1
    for names, mask in given_then:
        assert mask[0, 0] == 0
        assert [named[one] for one in mask[0, 1:].tolist()] == [category_name(name) for name in names]


@given(st.text())
def test_a_name_is_one_line_of_text(display_name: str) -> None:
    name = category_name(display_name)
    assert name.isprintable()
    assert name == name.strip() != ""
    assert name != "background"


@pytest.mark.parametrize(
    ("display_name", "name"),
    [
        ("cup", "cup"),
        ("segment-12", "segment"),
        ("segment-0", "segment-0"),
        ("line\nbreak\x00", "line break"),
        (" ", "unnamed"),
        ("background", "background_"),
    ],
)
def test_the_name_of_a_category(display_name: str, name: str) -> None:
    assert category_name(display_name) == name


def test_specs_that_are_known_come_first_and_two_of_one_name_are_one() -> None:
    specs = annotation_specs(["sky", "cup"])
    again = AnnotationSpec(id=9, display_name="sky", color="#123456")
    table = CategoryTable([*specs, again])
    assert [(one.id, one.display_name) for one in table] == [(1, "sky"), (2, "cup")]
    found = table.of_image(image_of(["plate", "cup"]))
    assert {own_id: one.id for own_id, one in found.items()} == {1: 3, 2: 2}
    assert [one.color for one in table][:2] == [spec.color for spec in specs[1:]]


def test_masks_of_16_bits() -> None:
    names = [f"label {i}" for i in range(300)]
    image = image_of(names)
    assert image.category_mask().dtype == np.uint16
    table = CategoryTable(annotation_specs(["first"]))
    assert table.ids_of_image(image)[image.category_mask()][0, 1:].tolist() == list(range(2, 302))


def test_more_categories_than_a_mask_tells_apart() -> None:
    specs = [AnnotationSpec(id=1, display_name=str(i), color="#ffffff") for i in range(65535)]
    table = CategoryTable(specs)
    assert len({one.color for one in table}) == 65535
    with pytest.raises(TooManyCategories, match="more than 65535 categories; give its prompts fewer labels"):
        table.of_image(image_of(["one more"]))
