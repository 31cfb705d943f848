"""Data for tests: name what matters, the rest is filled in."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskline.jobs import ImageRef, Job, Timings, new_job_id
from maskline.requests import Output, Priority, Prompt, PromptKind, SegmentationRequest, Subtask, Webhook
from maskline.results import ModelCard

TIMINGS = Timings(queue=1, fetch=1, decode=1, model=1, batch=1, render=1, store=1)
OF_EVERY_MODEL = [one for one in Output if one is not Output.EMBEDDING]
SECRET = "whsec_" + "A" * 32


def make_job(
    *,
    tenant: str = "default",
    model: str = "grabcut",
    priority: Priority = Priority.INTERACTIVE,
    lives_s: float = 3600,
    webhook: Webhook | None = None,
    prompts: Sequence[Prompt] = (),
    image: ImageRef | None = None,
) -> Job:
    """A job as it is before the store has seen it."""
    job_id = new_job_id()
    return Job(
        id=job_id,
        tenant=tenant,
        request=SegmentationRequest(
            model=model,
            subtask=Subtask.SEMANTIC,
            priority=priority,
            webhook=webhook,
            prompts=tuple(prompts),
        ),
        image=image or ImageRef(key=f"jobs/{job_id}/submission.png", sha256=job_id),
        expires_ms=int(lives_s * 1000),
    )


def make_card(model: str = "grabcut") -> ModelCard:
    """A model that takes everything."""
    return ModelCard(
        id=model,
        family="grabcut",
        display_name=model,
        subtasks=(Subtask.SEMANTIC, Subtask.INSTANCE),
        prompt_kinds=tuple(PromptKind),
        parameters_schema={
            "type": "object",
            "properties": {"confidenceThreshold": {"type": "number", "minimum": 0, "maximum": 1}},
            "additionalProperties": False,
        },
    )


DISC_BOX = (17.0, 9.0, 63.0, 55.0)  #: around the disc of ``picture``


def picture(height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    """uint8 (H, W, 3): a red disc at (40, 32) of radius 20 on a noisy green ground."""
    noise = np.random.default_rng(0).integers(0, 30, (height, width, 3))
    pixels = np.clip(np.array([20, 120, 40]) + noise, 0, 255).astype(np.uint8)
    disc = disc_mask(height, width)
    pixels[disc] = np.clip(np.array([200, 40, 30]) + noise[disc], 0, 255)
    return pixels


def disc_mask(height: int = 64, width: int = 96) -> NDArray[np.bool_]:
    """bool (H, W): where the disc of ``picture`` is."""
    y, x = np.mgrid[:height, :width]
    return np.asarray((x - 40) ** 2 + (y - 32) ** 2 <= 20**2)


def encoded(pixels: NDArray[np.generic], image_format: str, **options: Any) -> bytes:
    """An image file."""
    out = BytesIO()
    Image.fromarray(pixels).save(out, image_format, **options)
    return out.getvalue()
