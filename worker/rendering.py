"""The files of an attempt, from its segmentation."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from io import BytesIO

import numpy as np

from maskline.artifacts import Artifact
from maskline.errors import OutputUnavailable
from maskline.requests import DetectionOptions, Output, PictureOptions, SegmentationRequest
from maskline.results import MAX_PALETTE_ID, ResultDocument
from worker.detections import choose, to_detections
from worker.family import Image, Segmentation, SegmentMask
from worker.masks import render_category_mask, render_confidence_mask, to_segment_pictures, to_segments
from worker.overlay import render_overlay

_OF_DETECTIONS = {Output.DETECTIONS, Output.PICTURE}


def render(
    segmentation: Segmentation, image: Image, request: SegmentationRequest, pool: Executor
) -> dict[Artifact, bytes]:
    """The files that the request asks for, made side by side in ``pool``, and last the result document.

    Raises:
        OutputUnavailable: what draws pictures is not installed.
    """
    renderers = _renderers(segmentation, image, request)
    rendered = {
        artifact: pool.submit(make)
        for output, (artifact, make) in renderers.items()
        if output in request.outputs
    }
    files = {artifact: file.result() for artifact, file in rendered.items()}
    return {**files, Artifact.PREDICTION: _document(segmentation, request).to_json().encode()}


def _renderers(
    segmentation: Segmentation, image: Image, request: SegmentationRequest
) -> Mapping[Output, tuple[Artifact, Callable[[], bytes]]]:
    detections = request.detections or DetectionOptions()
    wants_chosen = not _OF_DETECTIONS.isdisjoint(request.outputs)
    chosen = choose(segmentation.segments, detections) if wants_chosen else {}
    return {
        Output.CATEGORY_MASK: (Artifact.CATEGORY_MASK, lambda: render_category_mask(segmentation)),
        Output.CONFIDENCE_MASK: (Artifact.CONFIDENCE_MASK, lambda: render_confidence_mask(segmentation)),
        Output.SEGMENTS: (Artifact.SEGMENTS, lambda: to_segments(segmentation).to_json().encode()),
        Output.SEGMENT_MASKS: (
            Artifact.SEGMENT_MASKS,
            lambda: to_segment_pictures(segmentation).to_json().encode(),
        ),
        Output.OVERLAY: (
            Artifact.OVERLAY,
            lambda: render_overlay(image, segmentation.category_map, segmentation.annotation_specs),
        ),
        Output.DETECTIONS: (
            Artifact.DETECTIONS,
            lambda: to_detections(chosen, segmentation, detections).to_json().encode(),
        ),
        Output.PICTURE: (
            Artifact.PICTURE,
            lambda: _picture(segmentation, image, tuple(chosen.values()), request),
        ),
        Output.EMBEDDING: (Artifact.EMBEDDING, lambda: _npy(segmentation)),
    }


def _document(segmentation: Segmentation, request: SegmentationRequest) -> ResultDocument:
    height, width = segmentation.category_map.shape
    return ResultDocument(
        width=width,
        height=height,
        bit_depth=8 if segmentation.annotation_specs[-1].id <= MAX_PALETTE_ID else 16,
        annotation_specs=segmentation.annotation_specs,
        segment_count=len(segmentation.segments),
        outputs=request.outputs,
    )


def _picture(
    segmentation: Segmentation, image: Image, segments: tuple[SegmentMask, ...], request: SegmentationRequest
) -> bytes:
    try:
        from worker.picture import render_picture  # noqa: PLC0415 (its library takes seconds, and few ask)
    except ImportError as error:
        raise OutputUnavailable(
            "this service draws no pictures; its operator can: pip install 'maskline[pictures]'"
        ) from error
    return render_picture(image, segments, segmentation.annotation_specs, request.picture or PictureOptions())


def _npy(segmentation: Segmentation) -> bytes:
    assert segmentation.embedding is not None  # noqa: S101 (the family was told that it is wanted)
    out = BytesIO()
    np.save(out, segmentation.embedding, allow_pickle=False)
    return out.getvalue()
