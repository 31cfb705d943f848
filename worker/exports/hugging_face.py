"""Hugging Face ``datasets``: a folder that ``load_dataset("imagefolder", data_dir=...)`` reads.

The format is that of https://huggingface.co/docs/datasets/image_dataset: ``metadata.jsonl`` names the files
of a row, and its column ``mask_file_name`` becomes the image ``mask``, whose pixels are the ids of
``id2label.json``.
"""

import json

from worker.colors import BACKGROUND
from worker.exporting.format import Export
from worker.exporting.palette_masks import encode_category_mask

DESCRIPTION = "Hugging Face datasets: images, masks of categories, metadata.jsonl, id2label.json"
CARRIES_IMAGES = True


def write(export: Export) -> None:
    """``images/{name}``, ``masks/{name}.png``, ``metadata.jsonl`` and ``id2label.json``."""
    rows = export.archive.spool()
    for image in export.images:
        files = {"file_name": f"images/{image.file_name}", "mask_file_name": f"masks/{image.stem}.png"}
        export.archive.add(files["file_name"], image.image_bytes())
        export.archive.add(files["mask_file_name"], encode_category_mask(image, export.categories))
        row = {
            **files,
            "item_id": image.id,
            "width": image.result.width,
            "height": image.result.height,
            "mean_confidence": image.result.mean_confidence,
        }
        rows.write(json.dumps(row, ensure_ascii=False) + "\n")
    export.archive.add_chunks("metadata.jsonl", rows.chunks())
    names = {category.id: category.display_name for category in (BACKGROUND, *export.categories)}
    export.archive.add_text("id2label.json", json.dumps(names, ensure_ascii=False, indent=1))
