"""Data for tests: name what matters, the rest is filled in."""

from collections.abc import Sequence

from maskline.jobs import ImageRef, Job, Timings, new_job_id
from maskline.requests import Priority, Prompt, SegmentationRequest, Subtask, Webhook
from maskline.results import ModelCard

TIMINGS = Timings(queue=1, fetch=1, decode=1, model=1, batch=1, render=1, store=1)
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
        image=image or ImageRef(key=f"inputs/{job_id}/x.png", sha256=job_id),
        expires_ms=int(lives_s * 1000),
    )


def make_card(model: str = "grabcut") -> ModelCard:
    """A model that takes everything."""
    return ModelCard(
        id=model,
        family="grabcut",
        display_name=model,
        subtasks=(Subtask.SEMANTIC, Subtask.INSTANCE),
        prompt_kinds=("box", "points"),
        parameters_schema={
            "type": "object",
            "properties": {"confidenceThreshold": {"type": "number", "minimum": 0, "maximum": 1}},
            "additionalProperties": False,
        },
    )
