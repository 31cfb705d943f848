"""Segment Anything: ``/sam/…`` and ``/sam2/segment_image``, by points and boxes.

The models are those of the catalog with the ids or aliases ``sam/{version}`` and ``sam2/{version}``.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from flask import Blueprint, Response, g, request
from pydantic import Field, JsonValue, ValidationError

from api.intake import Submission, upload_of
from api.openapi import BINARY, OneOrMany, operation
from api.protocols.roboflow.answers import JSON, Answers, headers_of, respond, respond_to_each, seconds_of
from api.protocols.roboflow.bodies import read_json_as, told_where
from api.protocols.roboflow.dialect import RoboflowError
from api.protocols.roboflow.fields import Fields, Images, InferenceImage, Keyed, Word
from api.protocols.roboflow.images import Given, from_source, sources_of
from api.protocols.roboflow.npy import nested_json
from api.services import Services
from api.synchronous import SynchronousCalls
from maskline.artifacts import Artifact, result_key
from maskline.codec import split_submission
from maskline.errors import ArtifactNotFound, Fault, InvalidRequest, JobNotFound
from maskline.jobs import Job, JobState
from maskline.plain_words import Right, tell
from maskline.ports import Idempotency
from maskline.requests import MAX_PROMPTS, Coordinate, Output, Prompt, SegmentationRequest, Subtask
from maskline.results import Detection, ModelCard
from maskline.run_lengths import RunLengthMask

NPY = "application/octet-stream"
_TAG = "Roboflow"
_PROBLEMS = (400, 404, 408, 413, 415, 422, 429)
_LABEL = "object"
_LOW_RES_SIDE = 256  # of the decoder's masks
_BESIDE, _ON, _UPPER_LEFT, _LOWER_RIGHT = 0, 1, 2, 3  # labels of points, as SAM's ONNX decoder reads them
_BESIDE_TOO = -1  # so Roboflow's description has it
_PADDING = (0.0, 0.0, _BESIDE_TOO)  # but here, where it is a point that says nothing
_OUTPUTS = (Output.CATEGORY_MASK, Output.CONFIDENCE_MASK, Output.DETECTIONS)
_IMAGE_NAMES = "\nsam image "  # before names of images; no Idempotency-Key can begin so, for it is a header
_POINTS, _SAM_VERSION, _SAM2_PROMPTS = "/point_coords", "/sam_version_id", "/prompts/prompts"  # in bodies
_SOMEWHERE = Prompt(label=_LABEL, points=((0, 0),))  # an embedding does not depend on it

NothingYet = Annotated[
    None, Right("this is not taken; send the image, or the image_id of one that was sent before, and points")
]


class SamRequest(Keyed):
    """What the calls of Segment Anything share."""

    image: InferenceImage | None = None
    """The image; may be left out where ``image_id`` is known."""
    image_id: Word | None = None
    """A name for the image; under it the image that was sent last is known for a day, and need not be sent
    again."""
    sam_version_id: Word = "vit_h"
    """The model is the one with the id or alias ``sam/{sam_version_id}``."""


class SamEmbeddingRequest(SamRequest):
    """Body of ``POST /sam/embed_image``."""

    format: Literal["json", "binary"] = "json"
    """``json``: nested lists; ``binary``: a file as ``numpy.save`` writes it."""


class SamEmbeddingResponse(Fields):
    """What the encoder made of the image."""

    embeddings: list[list[list[list[float]]]]
    """Shape (1, 256, 64, 64)."""
    time: float
    """Seconds that the image took."""


class SamSegmentationRequest(SamRequest):
    """Body of ``POST /sam/segment_image``."""

    point_coords: list[tuple[Coordinate, Coordinate]] = Field(default_factory=list)
    """``[[x, y], …]`` in pixels of the image."""
    point_labels: list[Annotated[int, Field(ge=_BESIDE_TOO, le=_LOWER_RIGHT)]] = Field(default_factory=list)
    """One for each point: 1 on the object, 0 or -1 beside it, 2 the upper left and 3 the lower right corner
    of its box. The point (0, 0) with -1 is padding."""
    format: Annotated[
        str, Field(pattern="^json$"), Right("give json; masks come as outlines and COCO run lengths")
    ] = "json"
    """``json``."""
    embeddings: NothingYet = None
    """Not taken: the worker keeps the embedding of an image that it saw."""
    embeddings_format: Word | None = None
    """Goes with ``embeddings``."""
    has_mask_input: Annotated[
        Literal[False, None], Right("masks are not taken as prompts; give false, and points")
    ] = False
    """Not taken if true."""
    mask_input: NothingYet = None
    """Not taken."""
    mask_input_format: Word | None = None
    """Goes with ``mask_input``."""
    orig_im_size: list[int] | None = None
    """Taken and not used: the image tells."""
    use_mask_input_cache: bool | None = True
    """Taken and not used: there are no such masks."""


class SamSegmentationResponse(Fields):
    """Masks."""

    masks: list[list[tuple[int, int]]]
    """The outline of the largest part of each mask."""
    low_res_masks: list[list[tuple[int, int]]]
    """The same on the 256 x 256 pixels of the decoder, into which the longer side of the image fits."""
    rle: list[RunLengthMask]
    """The whole of each mask."""
    time: float
    """Seconds that the image took."""


class Sam2Box(Fields):
    """A box by its centre, in pixels."""

    x: Coordinate
    y: Coordinate
    width: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    height: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Sam2Point(Fields):
    """A point, in pixels."""

    x: Coordinate
    y: Coordinate
    positive: bool
    """Whether it is on the object."""


class Sam2Prompt(Fields):
    """One object, by a box, by points, or by both."""

    box: Sam2Box | None = None
    points: list[Sam2Point] | None = None


class Sam2PromptSet(Fields):
    """The objects."""

    prompts: Annotated[list[Sam2Prompt], Field(max_length=MAX_PROMPTS)] | None = None
    """None: everything that there is."""


class Sam2SegmentationRequest(Keyed):
    """Body of ``POST /sam2/segment_image``."""

    image: Images
    """One image, or several; then the answer is an array."""
    sam2_version_id: Word = "hiera_large"
    """The model is the one with the id or alias ``sam2/{sam2_version_id}``."""
    prompts: Sam2PromptSet = Sam2PromptSet()
    """What to cut out."""
    multimask_output: bool = True
    """Whether the best of three masks is taken for each prompt, by models that make three."""
    format: Annotated[
        Literal["json", "polygon", "rle"],
        Right("give json, which is polygon, or rle; binary masks are not given"),
    ] = "json"
    """How masks are given."""
    mask_input: NothingYet = None
    """Not taken."""


class Sam2SegmentationPrediction(Fields):
    """The mask of one prompt."""

    masks: list[list[tuple[int, int]]] | RunLengthMask
    """The outline of each part, the largest first; or the run lengths."""
    confidence: float
    """How good the model thinks it is, 0 to 1."""
    format: Literal["polygon", "rle"]
    """Which of the two ``masks`` are."""


class Sam2SegmentationResponse(Fields):
    """A prediction for each prompt, in their order; without prompts the best first."""

    predictions: list[Sam2SegmentationPrediction]
    time: float
    """Seconds that the image took."""


def add_routes(blueprint: Blueprint, services: Services) -> None:
    """``/sam/…`` and ``/sam2/segment_image``."""
    views = _SamViews(services)
    for rule, view in (
        ("/sam/embed_image", views.sam_embed_image),
        ("/sam/segment_image", views.sam_segment_image),
        ("/sam2/segment_image", views.sam2_segment_image),
    ):
        blueprint.add_url_rule(rule, view.__name__, view, methods=["POST"])


class _SamViews:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._max_image_bytes = services.settings.max_image_bytes
        self._calls = SynchronousCalls(services)
        self._answers = Answers(services)

    @operation(
        "Embed an image (Roboflow, SAM)",
        tag=_TAG,
        bodies={JSON: SamEmbeddingRequest},
        answers={200: {JSON: SamEmbeddingResponse, NPY: BINARY}},
        problems=_PROBLEMS,
        problem=RoboflowError,
    )
    def sam_embed_image(self) -> Response:
        accepted, form = self._accept_embedding()
        [job] = self._calls.succeeded([accepted])
        npy = self._services.artifacts.get(result_key(job.id, job.attempt, Artifact.EMBEDDING))
        if form == "binary":
            return Response(npy, mimetype=NPY, headers=headers_of(job))
        return Response(_embedding_json(npy, seconds_of(job)), mimetype=JSON, headers=headers_of(job))

    @operation(
        "Cut out an object by points, or by a box (Roboflow, SAM)",
        tag=_TAG,
        bodies={JSON: SamSegmentationRequest},
        answers={200: {JSON: SamSegmentationResponse}},
        problems=_PROBLEMS,
        problem=RoboflowError,
    )
    def sam_segment_image(self) -> Response:
        [job] = self._calls.succeeded([self._accept_segmentation()])
        found = self._answers.detections(job)
        scale = _LOW_RES_SIDE / max(found.width, found.height)
        outlines = [list(one.polygons[0]) for one in found.detections]
        answer = SamSegmentationResponse(
            masks=outlines,
            low_res_masks=[[(int(x * scale), int(y * scale)) for x, y in outline] for outline in outlines],
            rle=[one.segmentation for one in found.detections],
            time=seconds_of(job),
        )
        return respond(job, answer)

    @operation(
        "Cut out objects by boxes and points, or everything (Roboflow, SAM 2)",
        tag=_TAG,
        bodies={JSON: Sam2SegmentationRequest},
        answers={200: {JSON: OneOrMany(Sam2SegmentationResponse)}},
        problems=_PROBLEMS,
        problem=RoboflowError,
    )
    def sam2_segment_image(self) -> Response:
        accepted, form, is_array = self._accept_sam2()
        jobs = self._calls.succeeded(accepted)
        answers = [self._sam2_answer(job, form) for job in jobs]
        return respond_to_each(jobs, answers, is_array=is_array)

    # These end before the wait, so that nothing holds the images during it.

    def _accept_embedding(self) -> tuple[Job, str]:
        asked = read_json_as(SamEmbeddingRequest, request, self._max_image_bytes)
        places = {"/outputs": _SAM_VERSION, "/prompts/0/points": _SAM_VERSION, "/prompts": _SAM_VERSION}
        return self._accept_by_id(asked, _SOMEWHERE, (Output.EMBEDDING,), places), asked.format

    def _accept_segmentation(self) -> Job:
        asked = read_json_as(SamSegmentationRequest, request, self._max_image_bytes)
        prompt, places = _prompt_of(asked)
        return self._accept_by_id(asked, prompt, _OUTPUTS, places)

    def _accept_sam2(self) -> tuple[list[Job], str, bool]:
        """The jobs, how their masks are to be given, and whether the images were in an array."""
        asked = read_json_as(Sam2SegmentationRequest, request, self._max_image_bytes)
        card = self._services.cards.find(f"sam2/{asked.sam2_version_id}")
        prompts = tuple(_prompt_of_sam2(i, one) for i, one in enumerate(asked.prompts.prompts or ()))
        given = [from_source(source, self._max_image_bytes) for source in sources_of(asked.image)]
        submissions = [
            _submission(one, card, prompts, _OUTPUTS, multimask=asked.multimask_output) for one in given
        ]
        with told_where({"/prompts": _SAM2_PROMPTS}):
            jobs = self._calls.submit(g.caller.tenant, submissions)
        return jobs, asked.format, isinstance(asked.image, list)

    def _sam2_answer(self, job: Job, form: str) -> Sam2SegmentationResponse:
        listed = self._answers.detections(job)
        found = {one.label: one for one in listed.detections}
        labels = [prompt.label for prompt in job.request.prompts] or list(found)
        size = (listed.height, listed.width)
        return Sam2SegmentationResponse(
            predictions=[_sam2_prediction(found.get(label), form, size) for label in labels],
            time=seconds_of(job),
        )

    def _accept_by_id(
        self, asked: SamRequest, prompt: Prompt, outputs: tuple[Output, ...], places: Mapping[str, str]
    ) -> Job:
        """The queued job on the image that is known by its id, or that was sent; ``places`` as ``told_where``
        takes them."""
        card = self._services.cards.find(f"sam/{asked.sam_version_id}")
        tenant = g.caller.tenant
        name = None
        if asked.image_id is not None:
            name = Idempotency(key=f"{_IMAGE_NAMES}{asked.image_id}", fingerprint="")
        given = self._given(tenant, asked.image, name)
        with told_where(places):
            [job] = self._calls.submit(tenant, [_submission(given, card, (prompt,), outputs)])
        if name is not None and asked.image is not None:
            self._services.jobs.bind(name, job, anew=True)
        return job

    def _given(self, tenant: str, image: InferenceImage | None, name: Idempotency | None) -> Given:
        """The image that was sent, else the one that is known by its name.

        Raises:
            InvalidRequest: there is neither.
        """
        if image is not None:
            return from_source(image, self._max_image_bytes)
        known = self._recall(tenant, name) if name is not None else None
        if known is None:
            detail = (
                "there is no image; send it, or the image_id of one that was sent in the last day, and whose "
                "job neither failed nor was deleted"
            )
            raise InvalidRequest([Fault("/image", detail)])
        return known

    def _recall(self, tenant: str, name: Idempotency) -> Given | None:
        """The image that is known by its name, if one is."""
        try:
            job = self._services.jobs.recall(tenant, name)
            # Nobody can tell whether the image is what it failed for.
            return None if job is None or job.state is JobState.FAILED else self._image_of(job)
        except (JobNotFound, ArtifactNotFound):  # it was deleted or expired, and its image with it
            return None

    def _image_of(self, job: Job) -> Given:
        if job.image.key is None:
            return Given(url=job.image.url)
        image, _ = split_submission(self._services.artifacts.get(job.image.key))
        return Given(upload=upload_of(bytes(image)))


def _submission(
    given: Given,
    card: ModelCard,
    prompts: tuple[Prompt, ...],
    outputs: tuple[Output, ...],
    *,
    multimask: bool | None = None,
) -> Submission:
    parameters: dict[str, JsonValue] = {}
    if multimask is not None and "multimaskOutput" in card.parameter_names:
        parameters["multimaskOutput"] = multimask
    asked = SegmentationRequest(
        model=card.id, subtask=Subtask.INSTANCE, prompts=prompts, outputs=outputs, parameters=parameters
    )
    return Submission(request=asked, upload=given.upload, url=given.url)


def _prompt_of(asked: SamSegmentationRequest) -> tuple[Prompt, Mapping[str, str]]:
    """Points and box of a request, and where its parts are there.

    Raises:
        InvalidRequest: they make no prompt.
    """
    if len(asked.point_coords) != len(asked.point_labels):
        detail = f"{len(asked.point_coords)} points but {len(asked.point_labels)} labels; give one for each"
        raise InvalidRequest([Fault("/point_labels", detail)])
    marks = [
        (i, (x, y), label)
        for i, ((x, y), label) in enumerate(zip(asked.point_coords, asked.point_labels, strict=True))
        if (x, y, label) != _PADDING
    ]
    corners = [[xy for _, xy, label in marks if label == corner] for corner in (_UPPER_LEFT, _LOWER_RIGHT)]
    points = [mark for mark in marks if mark[2] <= _ON]
    if [len(same) for same in corners] not in ([0, 0], [1, 1]):
        raise InvalidRequest([Fault("/point_labels", "a box has one point with the label 2 and one with 3")])
    prompt = _prompt(
        _POINTS,
        box=(*corners[0][0], *corners[1][0]) if corners[0] else None,
        points=[xy for _, xy, _ in points],
        point_labels=[_ON if label == _ON else _BESIDE for _, _, label in points],
    )
    places = {f"/prompts/0/points/{j}": f"{_POINTS}/{i}" for j, (i, _, _) in enumerate(points)}
    return prompt, places | {
        "/prompts/0/points": _POINTS,
        "/prompts/0/box": _POINTS,
        "/prompts": _SAM_VERSION,
    }


def _prompt_of_sam2(number: int, one: Sam2Prompt) -> Prompt:
    points = one.points or []
    box = one.box
    return _prompt(
        f"{_SAM2_PROMPTS}/{number}",
        label=f"{_LABEL}-{number + 1}",
        box=box
        and (
            box.x - box.width / 2,
            box.y - box.height / 2,
            box.x + box.width / 2,
            box.y + box.height / 2,
        ),
        points=[(point.x, point.y) for point in points],
        point_labels=[int(point.positive) for point in points],
    )


def _prompt(place: str, *, label: str = _LABEL, **fields: Any) -> Prompt:  # noqa: ANN401 (checked by Prompt)
    try:
        return Prompt(label=label, **fields)
    except ValidationError as error:
        raise InvalidRequest([Fault(place, tell(error))]) from error


def _sam2_prediction(found: Detection | None, form: str, size: tuple[int, int]) -> Sam2SegmentationPrediction:
    """The mask; an empty one of this height and width where no pixel was sure enough."""
    confidence = found.score if found else 0
    if form == "rle":
        mask = found.segmentation if found else RunLengthMask.empty(*size)
        return Sam2SegmentationPrediction(masks=mask, confidence=confidence, format="rle")
    outlines = [list(polygon) for polygon in found.polygons] if found else []
    return Sam2SegmentationPrediction(masks=outlines, confidence=confidence, format="polygon")


def _embedding_json(npy: bytes, seconds: float) -> Iterator[str]:
    yield '{"embeddings": '
    yield from nested_json(npy)
    yield f', "time": {seconds}}}'
