"""What a request must be for the model that it names; every fault is told at once."""

import json
from collections.abc import Mapping
from typing import cast

from jsonschema import Draft202012Validator, ValidationError
from pydantic import JsonValue

from maskline.errors import Fault
from maskline.image_header import ImageLimits
from maskline.plain_words import pointer
from maskline.request_faults import faults_for_model
from maskline.requests import MAX_METADATA_BYTES, Output, SegmentationRequest, outside
from maskline.results import ModelCard

JsonObject = Mapping[str, JsonValue]


def faults_of_request(
    request: SegmentationRequest,
    card: ModelCard,
    size: tuple[int, int] | None,
    *,
    limits: ImageLimits,
    has_webhook_secret: bool,
) -> list[Fault]:
    """Why the model can't run the request; none if it can.

    ``size``: width and height of the upright image, None where only the worker will know; ``limits``: of
    that image.
    """
    faults = [
        *faults_for_model(request, card),
        *_output_faults(request, card),
        *_parameter_faults(request, card),
        *_other_faults(request, has_webhook_secret=has_webhook_secret),
    ]
    faults += _oversize_faults(request, limits) if size is None else outside(request.prompts, *size)
    return faults


def _oversize_faults(request: SegmentationRequest, limits: ImageLimits) -> list[Fault]:
    return [
        Fault(
            pointer("prompts", i, "mask", "size"),
            f"no image of {list(prompt.mask.size)} pixels is taken; give [height, width] of the image",
        )
        for i, prompt in enumerate(request.prompts)
        if prompt.mask is not None and not limits.admit(*prompt.mask.size)
    ]


def _output_faults(request: SegmentationRequest, card: ModelCard) -> list[Fault]:
    if Output.EMBEDDING not in request.outputs or card.embeds:
        return []
    return [Fault("/outputs", f"{card.id} gives no embedding; leave it out")]


def _parameter_faults(request: SegmentationRequest, card: ModelCard) -> list[Fault]:
    errors = sorted(_validator(card).iter_errors(request.parameters), key=str)
    return [fault for error in errors for fault in _faults_of(error, card)]


def _faults_of(error: ValidationError, card: ModelCard) -> list[Fault]:
    if error.validator != "additionalProperties":
        message = error.message.replace(repr(error.instance), json.dumps(error.instance), 1)
        return [Fault(pointer("parameters", *error.absolute_path), message)]
    values, schema = cast(JsonObject, error.instance), cast(JsonObject, error.schema)
    known = cast(JsonObject, schema.get("properties", {}))
    detail = f"{card.id} has no such parameter; it has {', '.join(known)}"
    return [
        Fault(pointer("parameters", *error.absolute_path, name), detail)
        for name in values
        if name not in known
    ]


def _validator(card: ModelCard) -> Draft202012Validator:
    """Of the model's parameters, made again when a worker offers the model with others."""
    known = _validators.get(card.id)
    if known is None or known.schema is not card.parameters_schema:
        known = _validators[card.id] = Draft202012Validator(card.parameters_schema)
    return known


_validators: dict[str, Draft202012Validator] = {}


def _other_faults(request: SegmentationRequest, *, has_webhook_secret: bool) -> list[Fault]:
    faults = []
    if request.metadata and len(json.dumps(request.metadata)) > MAX_METADATA_BYTES:
        faults.append(Fault("/metadata", f"more than {MAX_METADATA_BYTES} bytes of JSON"))
    if request.webhook is not None and request.webhook.secret is None and not has_webhook_secret:
        faults.append(Fault("/webhook/secret", "this service has no secret of its own; give one (whsec_…)"))
    return faults
