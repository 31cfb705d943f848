"""Segments as regions of Label Studio."""

from collections.abc import Callable, Sequence
from statistics import fmean

from api.protocols.label_studio.label_config import Control, Shape
from api.protocols.label_studio.messages import (
    BrushValue,
    LabelledRegion,
    PolygonValue,
    RectangleValue,
    TaskPrediction,
)
from maskline.artifacts import Artifact, result_key
from maskline.brush_masks import to_brush
from maskline.jobs import Job
from maskline.ports import ArtifactStore
from maskline.requests import Output
from maskline.results import Detection, DetectionList, ModelCard, Segment, SegmentList

Value = BrushValue | PolygonValue | RectangleValue
Size = tuple[int, int]


def outputs_for(shape: Shape) -> tuple[Output, ...]:
    """What a job has to make for regions of this kind."""
    return (Output.DETECTIONS,) if shape == "polygonlabels" else (Output.SEGMENTS,)


def version_of(card: ModelCard) -> str:
    """The model and the revision of its entry: what Label Studio tells its predictions apart by."""
    return f"{card.id} {card.revision}".rstrip()


def prediction_of(artifacts: ArtifactStore, job: Job, card: ModelCard, control: Control) -> TaskPrediction:
    """What a succeeded job found, as far as the configuration has labels for it.

    Raises:
        ArtifactNotFound: the bucket lost it.
        ArtifactStoreUnavailable: the store does not answer.
    """
    size, segments = _read(artifacts, job, control.shape)
    label_of = _labeller(job, card, control)
    regions = [
        LabelledRegion.model_construct(
            id=f"{job.id}-{segment.id}-{part}",
            type=control.shape,
            from_name=control.from_name,
            to_name=control.to_name,
            original_width=size[0],
            original_height=size[1],
            value=value,
            score=segment.score,
        )
        for segment in segments
        if segment.area and (label := label_of(segment.label)) is not None
        for part, value in enumerate(_values(segment, control.shape, label, size), 1)
    ]
    score = fmean(region.score for region in regions) if regions else 0.0
    return TaskPrediction.model_construct(model_version=version_of(card), score=score, result=regions)


def _labeller(job: Job, card: ModelCard, control: Control) -> Callable[[str], str | None]:
    """Gives the label for a category.

    Where the model knows no categories and the configuration has one label, everything is of that.
    """
    if not (job.request.prompts or card.annotation_specs) and len(control.labels) == 1:
        return lambda _: control.labels[0]
    return control.label_of


def _read(artifacts: ArtifactStore, job: Job, shape: Shape) -> tuple[Size, Sequence[Segment]]:
    if shape == "polygonlabels":
        found = DetectionList.model_validate_json(
            artifacts.get(result_key(job.id, job.attempt, Artifact.DETECTIONS))
        )
        return (found.width, found.height), found.detections
    listed = SegmentList.model_validate_json(
        artifacts.get(result_key(job.id, job.attempt, Artifact.SEGMENTS))
    )
    return (listed.width, listed.height), listed.segments


def _values(segment: Segment, shape: Shape, label: str, size: Size) -> Sequence[Value]:
    width, height = size
    if isinstance(segment, Detection):
        # Outlines go through the middle of the outermost pixels.
        return [
            PolygonValue.model_construct(
                points=[((x + 0.5) * 100 / width, (y + 0.5) * 100 / height) for x, y in polygon],
                polygonlabels=[label],
            )
            for polygon in segment.polygons
        ]
    if shape == "brushlabels":
        return [BrushValue.model_construct(rle=to_brush(segment.segmentation), brushlabels=[label])]
    left, top, box_width, box_height = segment.bbox
    return [
        RectangleValue.model_construct(
            x=left * 100 / width,
            y=top * 100 / height,
            width=box_width * 100 / width,
            height=box_height * 100 / height,
            rectanglelabels=[label],
        )
    ]
