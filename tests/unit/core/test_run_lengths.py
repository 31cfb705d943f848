"""Run lengths against ``pycocotools``, and against what is none."""

from itertools import cycle

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pycocotools import mask as coco

from maskline.run_lengths import RunLengthMask

ALPHABET = "".join(map(chr, range(ord("0"), ord("o") + 1)))
SIZES = st.tuples(st.integers(1, 6), st.integers(1, 6))


@given(st.lists(st.integers(0, 10**8), min_size=1, max_size=12).filter(any))
@example([0, 2**31 - 1])
@example([0, 2**30, 0, 0, 1])
def test_the_lengths_are_those_that_coco_wrote(lengths: list[int]) -> None:
    size = (1, sum(lengths))
    written = coco.frPyObjects({"size": list(size), "counts": lengths}, *size)
    assert RunLengthMask(size=size, counts=written["counts"].decode()).run_lengths() == lengths
    assert RunLengthMask.of_run_lengths(*size, lengths).counts == written["counts"].decode()


@given(st.integers(1, 300), st.integers(1, 300))
def test_an_empty_mask_is_as_coco_writes_it(height: int, width: int) -> None:
    theirs = coco.encode(np.zeros((height, width), np.uint8, order="F"))
    assert RunLengthMask.empty(height, width).counts == theirs["counts"].decode()


@given(SIZES, st.text(st.one_of(st.sampled_from(ALPHABET), st.characters()), max_size=12))
@example((1, 1), "")
@example((1, 1), "1P")
@example((1, 1), "\ud800")
@example((1, 1), "é")
def test_any_text_is_read_as_coco_reads_it_or_refused(size: tuple[int, int], counts: str) -> None:
    try:
        lengths = RunLengthMask(size=size, counts=counts).run_lengths()
    except ValueError:
        return
    assert min(lengths) >= 0
    assert sum(lengths) == size[0] * size[1]
    pixels = [pixel for length, pixel in zip(lengths, cycle((0, 1))) for _ in range(length)]
    theirs = coco.decode({"size": list(size), "counts": counts.encode()})
    assert theirs.ravel(order="F").tolist() == pixels


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ("", "add up to 0 pixels; a mask of 3 x 2 pixels has 6"),
        ("7", "add up to 7 pixels"),
        ("6/", "character '/' at 1"),
        ("6p", "character 'p' at 1"),
        ("6P", "cut off"),
        ("O7", "run 0 is -1 pixels"),
        ("1222O", "add up to 10"),
        ("123J", "run 3 is -4 pixels"),
        ("P" * 7 + "0", "goes on at 7"),
        ("o" * (1 << 20), "goes on at 7"),
    ],
)
def test_what_is_wrong_is_said(counts: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RunLengthMask(size=(2, 3), counts=counts).run_lengths()


@pytest.mark.parametrize(
    "size", [(0, 1), (-1, 1), (2**31, 1), (10**5000, 1)], ids=["0", "-1", "2^31", "huge"]
)
def test_a_size_is_that_of_an_image(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="size"):
        RunLengthMask(size=size, counts="1")
