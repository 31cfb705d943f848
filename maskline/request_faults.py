"""What a request must be for a model, as far as the model's card tells of it; every fault is told at once."""

from maskline.errors import Fault
from maskline.requests import SegmentationRequest
from maskline.results import ModelCard
from maskline.run_lengths import RunLengthMask


def faults_for_model(request: SegmentationRequest, card: ModelCard) -> list[Fault]:
    """Why the model can't run the request's subtask and prompts; none if it can."""
    return [*_subtask_faults(request, card), *_prompt_faults(request, card), *_mask_faults(request)]


def _subtask_faults(request: SegmentationRequest, card: ModelCard) -> list[Fault]:
    if request.subtask is None or request.subtask in card.subtasks:
        return []
    known = ", ".join(card.subtasks)
    return [Fault("/subtask", f"{card.id} does not do {request.subtask}; it does {known}")]


def _prompt_faults(request: SegmentationRequest, card: ModelCard) -> list[Fault]:
    if not request.prompts:
        if card.automatic:
            return []
        return [Fault("/prompts", f"{card.id} needs at least one prompt")]
    if not card.prompt_kinds:
        return [Fault("/prompts", f"{card.id} takes no prompts; leave them out")]
    known = ", ".join(card.prompt_kinds)
    return [
        Fault(f"/prompts/{i}/{kind}", f"{card.id} takes no {kind} prompts; it takes {known}")
        for i, prompt in enumerate(request.prompts)
        for kind in sorted(prompt.kinds - set(card.prompt_kinds))
    ]


def _mask_faults(request: SegmentationRequest) -> list[Fault]:
    return [
        Fault(f"/prompts/{i}/mask/counts", wrong)
        for i, prompt in enumerate(request.prompts)
        if prompt.mask is not None and (wrong := _what_is_wrong(prompt.mask)) is not None
    ]


def _what_is_wrong(mask: RunLengthMask) -> str | None:
    """With the run lengths; None if nothing is."""
    try:
        lengths = mask.run_lengths()
    except ValueError as error:
        return str(error)
    return None if any(lengths[1::2]) else "the mask is empty; give one that has a pixel on the object"
