"""Names of files, from ids that are any text."""

import re
from unicodedata import normalize

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maskline.file_names import FileNames, extension_of, file_name

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


ODD_IDS = st.lists(
    st.one_of(
        PLAIN_OR_ODD,
        st.from_regex(r"[abAB]{1,2}(/[abAB]{1,2}){0,2}(\.(jpg|PNG|txt|json))?(/[ab])?", fullmatch=True),
        st.text("😀é\u0301eE", min_size=1, max_size=101),
    ),
    unique=True,
)


@given(ODD_IDS)
@example(["a.jpg", "a.png", "A.jpg"])
@example(["a.txt/b", "a"])
@example(["b.png/c", "b.jpg"])
@example(["é", "e\u0301", "E\u0301"])
@example(["\udcff", "a\nb", "/etc/passwd", "../x", "a//b", "C:\\x"])
@example(["😀" * 100, "x" * 101, "/".join("ab" * 10)])
def test_files_named_after_items_stand_beside_each_other(item_ids: list[str]) -> None:
    names, again = FileNames(), FileNames()
    stems = [names.stem(item_id) for item_id in item_ids]
    assert [again.stem(item_id) for item_id in item_ids] == stems
    folded = {normalize("NFC", stem).casefold() for stem in stems}
    assert len(folded) == len(item_ids)
    files = {f"{stem}.{extension}" for stem in folded for extension in ("png", "txt", "json")}
    folders = {
        "/".join(parts[:n]) for name in files for parts in [name.split("/")] for n in range(1, len(parts))
    }
    assert not files & folders
    for stem in stems:
        for part in stem.split("/"):
            assert part not in {"", ".", ".."}
            assert part[0] not in ". "
            assert part[-1] not in ". "
            assert part.split(".")[0].lower() not in {"con", "prn", "aux", "nul", "com1", "lpt1"}
            assert len(f"{part}.png.new".encode()) <= 255
            assert not set(part) & set('<>:"\\|?*\n\0')


@pytest.mark.parametrize(
    ("item_id", "name"),
    [
        ("photos/2024.01/IMG 7.JPG", "photos/2024.01/IMG 7.JPG"),
        ("größer/ä.png", "größer/ä.png"),
        ("a7", "a7.jpg"),
        ("v1.2", "v1.2.jpg"),
    ],
)
def test_safe_ids_name_their_images(item_id: str, name: str) -> None:
    assert FileNames().image_name(item_id, "jpg") == name


def test_the_first_of_two_alike_keeps_its_name() -> None:
    names = FileNames()
    assert names.image_name("a.jpg", "jpg") == "a.jpg"
    assert re.fullmatch(r"a_png--[0-9a-f]{20}\.png", names.image_name("a.png", "png"))
