"""Resizing parts of planes against PyTorch's ``interpolate`` of the whole."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from worker.bilinear import is_exact_by_rows, resize_part
from worker.window import Window

SIDES = st.integers(1, 60)


@given(
    small=st.tuples(SIDES, SIDES),
    large=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    data=st.data(),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=300)
def test_a_part_is_that_of_the_whole_to_the_last_bit(
    small: tuple[int, int], large: tuple[int, int], data: st.DataObject, seed: int
) -> None:
    plane = torch.randn(small, generator=torch.Generator().manual_seed(seed)) * 8
    whole = functional.interpolate(plane[None, None], size=large, mode="bilinear", align_corners=False)[0, 0]
    rows, columns = (
        sorted((data.draw(st.integers(0, side)), data.draw(st.integers(0, side)))) for side in large
    )
    window = Window(columns[0], rows[0], columns[1], rows[1])
    assert torch.equal(resize_part(plane, large, window), whole[window.slices])


def test_the_fast_way_is_the_one_in_use() -> None:
    assert is_exact_by_rows(torch.zeros(20, 30), (20, 140))
