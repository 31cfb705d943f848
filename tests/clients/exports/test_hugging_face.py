"""The folder for Hugging Face's ``datasets``, read by it."""

import json
from pathlib import Path

import numpy as np
from datasets import load_dataset

from tests.clients.exports.conftest import Unpack
from worker.exporting.categories import category_name
from worker.exporting.labelled_image import LabelledImage


def test_images_and_masks_are_equal_to_the_pixel(
    images: list[LabelledImage], unpack: Unpack, tmp_path: Path
) -> None:
    folder = unpack("hugging-face")
    names = {int(key): name for key, name in json.loads((folder / "id2label.json").read_text()).items()}
    rows = load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == len(images)
    found = {row["item_id"]: row for row in rows}
    for image in images:
        row = found[image.id]
        assert row["image"].size == (image.result.width, image.result.height)
        mask, own = np.asarray(row["mask"]), image.category_mask()
        specs = {spec.id: spec for spec in image.result.annotation_specs}
        for own_id in np.unique(own):
            name = category_name(specs[own_id].display_name) if own_id else "background"
            assert {names[one] for one in np.unique(mask[own == own_id])} == {name}
