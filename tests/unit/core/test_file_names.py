"""Names of files, from ids that are any text."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maskline.file_names import extension_of, file_name

PLAIN_OR_ODD = st.one_of(
    st.text(max_size=1024),
    st.text("aAbB./\\-_ ~:é", max_size=12),
    st.sampled_from(["con", "CON", "nul.x", "com1", "..", ".", "a", "A", "a.", ".a", "a--b", "ß", "SS"]),
)


@given(PLAIN_OR_ODD)
@example("x" * 1024)
def test_a_name_is_safe_anywhere(item_id: str) -> None:
    name = file_name(item_id, "jpg")
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*\.jpg", name)
    assert ".." not in name
    assert len(name) <= 109
    assert name.lower().split(".")[0] not in {"con", "prn", "aux", "nul", "com1", "lpt1"}
    assert name == file_name(item_id, "jpg")


@given(st.lists(PLAIN_OR_ODD, unique=True))
@example(["a", "A"])
@example(["a/b", "a_b", "a b", "A_B"])
@example(["é", "e\u0301", "", " "])
def test_no_two_ids_share_a_name(item_ids: list[str]) -> None:
    names = {file_name(item_id, "jpg").lower() for item_id in item_ids}
    assert len(names) == len(item_ids)


@given(PLAIN_OR_ODD)
def test_a_made_name_is_none_of_an_id(item_id: str) -> None:
    """Nobody gets another's name by taking it for an id."""
    stem = file_name(item_id, "jpg").removesuffix(".jpg")
    assert (file_name(stem, "jpg") == f"{stem}.jpg") == (stem == item_id)


@pytest.mark.parametrize("item_id", ["17", "a7", "img_0017-b.v2", "x" * 100])
def test_plain_ids_are_kept(item_id: str) -> None:
    assert file_name(item_id, "png") == f"{item_id}.png"


@pytest.mark.parametrize("extension", ["", ".png", "a/b", "PNG", "../x"])
def test_an_extension_that_is_none(extension: str) -> None:
    with pytest.raises(ValueError, match="give 1 to 8 of a to z"):
        file_name("a", extension)


@pytest.mark.parametrize(
    ("address", "extension"),
    [
        ("s3://photos/a7.PNG", "png"),
        ("https://example.com/a.webp?size=1.jpg", "webp"),
        ("gs://photos/a7", "jpg"),
        ("s3://photos/a.b/c", "jpg"),
        ("s3://photos/a.exe", "jpg"),
    ],
)
def test_the_extension_of_an_address(address: str, extension: str) -> None:
    assert extension_of(address) == extension
