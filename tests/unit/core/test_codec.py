"""Submissions: what goes in comes out, and nothing else is taken for one."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskline.codec import NotASubmission, split_submission, trailer
from maskline.requests import Prompt
from tests.factories import encoded, make_job, picture

labels = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable())


@given(image=st.binary(max_size=500), label=labels)
def test_the_image_and_the_request_come_back(image: bytes, label: str) -> None:
    job = make_job(prompts=[Prompt(label=label, box=(0, 0, 1, 1))])
    data, document = split_submission(image + trailer(job))
    assert bytes(data) == image
    assert (document.id, document.tenant) == (job.id, job.tenant)
    assert (document.request, document.image) == (job.request, job.image)


@given(st.binary(max_size=200))
def test_other_bytes_are_none(data: bytes) -> None:
    with pytest.raises(NotASubmission):
        split_submission(data)


@given(cut=st.integers(1, 8))
def test_a_submission_that_is_cut_off_is_none(cut: int) -> None:
    with pytest.raises(NotASubmission):
        split_submission((b"image" + trailer(make_job()))[:-cut])


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_the_object_is_still_the_image_to_a_viewer(image_format: str) -> None:
    image = encoded(picture(), image_format)
    with Image.open(BytesIO(image)) as alone, Image.open(BytesIO(image + trailer(make_job()))) as whole:
        assert alone.convert("RGB").tobytes() == whole.convert("RGB").tobytes()
