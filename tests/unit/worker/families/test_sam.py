"""Segment Anything against the upstream package, on the same random weights."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.utils.transforms import ResizeLongestSide

from maskline.catalog import ModelSpec, Weights, load_catalog
from maskline.errors import InvalidRequest, WeightsUnusable
from maskline.requests import Prompt, PromptKind, Subtask
from maskline.run_lengths import RunLengthMask
from maskline.weights import WeightStore
from tests.factories import disc_mask, picture
from tests.sam_weights import find_blobs
from worker.checkpoint import RandomStartLeftOut, load_state
from worker.families.sam import Parameters, describe, load
from worker.family import Resources, Segmentation, SegmentationInput, Segmenter
from worker.masks import decode_rle, encode_rle
from worker.packed_mask import PackedMask
from worker.sam import everything
from worker.sam.mask_input import low_resolution_logits
from worker.sam.point_decoder import PointDecoder
from worker.sam.prompt_decoder import decode_prompts
from worker.sam.visible import window_of
from worker.segmentation_builder import SegmentationBuilder


def small() -> Sam:
    """Upstream's own classes, at a quarter of the size that images have there."""
    side, channels = 256, 256
    grid = (side // 16, side // 16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=channels, mlp_dim=64, num_heads=8)
    model = Sam(
        image_encoder=ImageEncoderViT(
            img_size=side,
            embed_dim=16,
            depth=2,
            num_heads=2,
            use_rel_pos=True,
            window_size=7,
            global_attn_indexes=(1,),
        ),
        prompt_encoder=PromptEncoder(channels, grid, (side, side), mask_in_chans=16),
        mask_decoder=MaskDecoder(transformer_dim=channels, transformer=transformer),
    )
    return model.eval()


IMAGE = picture(120, 180)
SMALL = small()
DISC = encode_rle(PackedMask.pack(disc_mask(120, 180)))


@pytest.fixture(scope="module", autouse=True)
def variants() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sam_model_registry, "small", small)
        yield


@pytest.fixture(scope="module")
def upstream() -> dict[str, Sam]:
    """A model with random weights, and one that finds blobs."""
    torch.manual_seed(7)
    models = {"small": small(), "blobs": small()}
    find_blobs(models["blobs"])
    return models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, upstream: dict[str, Sam]) -> Path:
    """Where the checkpoint is, in both formats."""
    folder = tmp_path_factory.mktemp("weights")
    for name, model in upstream.items():
        torch.save(model.state_dict(), folder / f"{name}.pth")
    state = upstream["small"].state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "small.safetensors")
    return folder


def spec(path: Path, variant: str = "small") -> ModelSpec:
    return ModelSpec(
        id="tiny", family="sam", display_name="Tiny", weights=Weights(path=path), options={"variant": variant}
    )


def loaded(path: Path, variant: str = "small", cache_bytes: int = 1 << 26) -> Segmenter:
    resources = Resources(weights=WeightStore(path.parent), device="cpu", embedding_cache_bytes=cache_bytes)
    return load(spec(path, variant), resources)


@pytest.fixture(scope="module")
def model(folder: Path) -> Segmenter:
    return loaded(folder / "small.pth")


def ask(
    model: Segmenter,
    *prompts: Prompt,
    image: NDArray[np.uint8] = IMAGE,
    key: str = "image",
    **parameters: Any,
) -> Segmentation:
    one = SegmentationInput(
        image=image,
        image_key=key,
        prompts=prompts,
        subtask=Subtask.INSTANCE,
        parameters=Parameters(**parameters),
    )
    [segmentation] = model.segment([one])
    return segmentation


def arguments(prompt: Prompt) -> dict[str, Any]:
    """A prompt as ``SamPredictor.predict`` takes it."""
    points = prompt.labelled_points
    return {
        "point_coords": np.array([[x, y] for x, y, _ in points]) if points else None,
        "point_labels": np.array([label for *_, label in points]) if points else None,
        "box": np.array(prompt.box) if prompt.box else None,
        "mask_input": mask_input(prompt.mask) if prompt.mask else None,
    }


def mask_input(mask: RunLengthMask) -> NDArray[np.float32]:
    """A mask of ``IMAGE``'s size as ``SamPredictor.predict`` takes it."""
    return low_resolution_logits(decode_rle(mask), (171, 256), 256, 64)[None]


@pytest.mark.parametrize("prompts", [(), (Prompt(label="box", box=(20, 12, 62, 55)),)])
def test_the_embedding_is_upstream_s(
    model: Segmenter, upstream: dict[str, Sam], prompts: tuple[Prompt, ...]
) -> None:
    one = SegmentationInput(
        image=IMAGE,
        image_key="embedded",
        prompts=prompts,
        subtask=Subtask.INSTANCE,
        parameters=Parameters(crop_layers=1),
        wants_embedding=True,
    )
    [segmentation] = model.segment([one])
    predictor = SamPredictor(upstream["small"])
    predictor.set_image(IMAGE)
    assert segmentation.embedding is not None
    assert np.array_equal(segmentation.embedding, predictor.get_image_embedding().numpy())
    assert ask(model, *prompts).embedding is None


PROMPTS = [
    Prompt(label="box", box=(20, 12, 62, 55)),
    Prompt(label="point", points=((40, 32),)),
    Prompt(label="points", points=((40, 32), (150, 100)), point_labels=(1, 0)),
    Prompt(label="both", box=(20, 12, 62, 55), points=((40, 32), (21, 13)), point_labels=(1, 0)),
    Prompt(label="fraction", box=(20.25, 12.5, 62.75, 55.125)),
    Prompt(label="mask", mask=DISC),
    Prompt(label="another mask", mask=encode_rle(PackedMask.pack(~disc_mask(120, 180)))),
    Prompt(label="mask and point", mask=DISC, points=((40, 32),)),
    Prompt(label="mask less a point", mask=DISC, points=((40, 32),), point_labels=(0,)),
    Prompt(label="mask and box", mask=DISC, box=(20, 12, 62, 55)),
    Prompt(label="all", mask=DISC, box=(20, 12, 62, 55), points=((40, 32), (21, 13)), point_labels=(1, 0)),
]


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt.label)
def test_a_prompt_gives_the_mask_that_upstream_gives(
    upstream: dict[str, Sam], model: Segmenter, prompt: Prompt, multimask: bool
) -> None:
    predictor = SamPredictor(upstream["small"])
    predictor.set_image(IMAGE)
    logits, scores, _ = predictor.predict(**arguments(prompt), multimask_output=multimask, return_logits=True)
    best = int(scores.argmax())
    found = ask(model, prompt, multimask_output=multimask)
    [segment] = found.segments
    # A logit of -1e-7 has a probability of 0.5 in 32 bits, and so reaches the threshold.
    assert np.array_equal(segment.mask, torch.as_tensor(logits[best]).sigmoid() >= 0.5)
    assert segment.score == min(1.0, max(0.0, float(scores[best])))
    probability = 1 / (1 + np.exp(-logits[best].astype(np.float64)))
    sure = np.where(segment.mask, probability, 1 - probability)
    assert np.abs(found.confidence_map - 255 * sure).max() <= 0.51
    assert np.array_equal(found.category_map, segment.mask)


def test_the_card_offers_every_kind_of_prompt(folder: Path) -> None:
    assert describe(spec(folder / "small.pth", "vit_b")).prompt_kinds == tuple(PromptKind)


@pytest.mark.parametrize(
    "size", [(120, 180), (300, 256), (256, 9), (5, 7), (1, 1), (999, 1501), (2000, 130), (80, 1024)], ids=str
)
def test_a_mask_comes_back_from_its_logits(upstream: dict[str, Sam], size: tuple[int, int]) -> None:
    model = upstream["small"]
    height, width = size
    y, x = (np.mgrid[:height, :width] + 0.5) / np.array([height, width])[:, None, None]
    mask = np.hypot(x - 0.4, y - 0.7) < 0.4  # an ellipse that is cut off below
    input_size = ResizeLongestSide.get_preprocess_shape(height, width, 256)
    logits = low_resolution_logits(mask, input_size, 256, 64)
    assert logits.shape == (64, 64)
    assert logits.dtype == np.float32
    assert np.abs(logits).max() == 10
    rows, columns = (-(-side // 4) for side in input_size)
    assert (logits[rows:] == -10).all()
    assert (logits[:, columns:] == -10).all()
    share = ((logits + 10) / 20).sum() * 16 / (input_size[0] * input_size[1])
    assert share == pytest.approx(mask.mean(), abs=1e-3)
    large = model.postprocess_masks(torch.as_tensor(logits)[None, None], input_size, size)
    back = (large[0, 0] > 0).numpy()
    assert (back & mask).sum() / (back | mask).sum() > 0.9


def test_a_single_point_gets_the_best_of_three_masks_and_others_get_one(model: Segmenter) -> None:
    for prompt in PROMPTS:
        is_ambiguous = prompt.label == "point"
        chosen, said = ask(model, prompt), ask(model, prompt, multimask_output=is_ambiguous)
        assert np.array_equal(chosen.confidence_map, said.confidence_map)


def test_prompts_together_are_as_prompts_alone(model: Segmenter) -> None:
    together = ask(model, *PROMPTS)
    assert [spec.display_name for spec in together.annotation_specs[1:]] == [p.label for p in PROMPTS]
    for prompt, segment in zip(PROMPTS, together.segments, strict=True):
        [alone] = ask(model, prompt).segments
        assert np.array_equal(segment.mask, alone.mask)
        assert segment.score == pytest.approx(alone.score, abs=1e-6)


@pytest.mark.parametrize("most", [100, 3, 1])
@pytest.mark.parametrize("kind", ["boxes", "points"])
def test_many_prompts_go_through_the_decoder_in_parts(
    upstream: dict[str, Sam], monkeypatch: pytest.MonkeyPatch, kind: str, most: int
) -> None:
    """``most``: so many have room in the memory."""
    predictor = SamPredictor(upstream["small"])
    predictor.set_image(IMAGE)
    corners = np.random.default_rng(0).uniform(0, 60, (21, 4)) + np.array([0, 0, 60, 60])
    scaled = torch.as_tensor(predictor.transform.apply_boxes(corners, IMAGE.shape[:2]), dtype=torch.float)
    if kind == "boxes":
        prompts = [Prompt(label="thing", box=tuple(row)) for row in corners.tolist()]
        _, scores, logits = predictor.predict_torch(None, None, scaled, multimask_output=False)
    else:
        prompts = [Prompt(label="thing", points=((x, y),)) for x, y, *_ in corners.tolist()]
        ones = torch.ones(len(prompts), 1)
        _, scores, logits = predictor.predict_torch(scaled[:, None, :2], ones, multimask_output=True)
    decoder = predictor.model.mask_decoder
    forward = decoder.forward
    together: list[int] = []

    def bounded(*, sparse_prompt_embeddings: torch.Tensor, **others: Any) -> Any:
        if len(sparse_prompt_embeddings) > most:
            raise torch.OutOfMemoryError
        together.append(len(sparse_prompt_embeddings))
        return forward(sparse_prompt_embeddings=sparse_prompt_embeddings, **others)

    monkeypatch.setattr(decoder, "forward", bounded)
    with torch.inference_mode():
        found = decode_prompts(predictor, prompts, None)
    if most == 100:
        assert together == [7, 7, 7]
    assert sum(together) == len(prompts)
    assert max(together) <= most
    for one, each, score in zip(found, logits, scores, strict=True):
        best = int(score.argmax())
        assert torch.allclose(one.logits, each[best], atol=1e-5)
        assert one.score == pytest.approx(min(max(float(score[best]), 0), 1), abs=1e-5)


def test_a_prompt_of_many_points_counts_as_several(
    upstream: dict[str, Sam], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = SamPredictor(upstream["small"])
    predictor.set_image(IMAGE)
    together: list[int] = []
    encode = predictor.model.prompt_encoder.forward

    def counting(points: tuple[torch.Tensor, torch.Tensor], **others: Any) -> Any:
        together.append(points[0].shape[0] * points[0].shape[1])
        return encode(points=points, **others)

    monkeypatch.setattr(predictor.model.prompt_encoder, "forward", counting)
    prompts = [Prompt(label="thing", points=((1, 2),) * 200, point_labels=(1,) * 200) for _ in range(5)]
    with torch.inference_mode():
        assert len(decode_prompts(predictor, prompts, None)) == 5
    assert together == [400, 400, 200]


def test_the_most_likely_category_wins_each_pixel(upstream: dict[str, Sam], model: Segmenter) -> None:
    predictor = SamPredictor(upstream["small"])
    predictor.set_image(IMAGE)
    planes = [
        1 / (1 + np.exp(-predictor.predict(**arguments(p), multimask_output=False, return_logits=True)[0][0]))
        for p in PROMPTS
    ]
    stack = np.stack(planes)
    best = stack.max(axis=0)
    sure = np.sort(stack, axis=0)[-1] - np.sort(stack, axis=0)[-2] > 1e-5  # rounding decides no tie
    wanted = np.where(best >= 0.5, stack.argmax(axis=0) + 1, 0)
    found = ask(model, *PROMPTS, multimask_output=False)
    assert sure.mean() > 0.5
    assert np.array_equal(found.category_map[sure], wanted[sure])
    assert np.abs(found.confidence_map - 255 * np.where(found.category_map > 0, best, 1 - best)).max() <= 0.51


def test_the_encoder_runs_once_for_an_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = loaded(folder / "small.pth", cache_bytes=2 * 256 * 16 * 16 * 4)
    runs: list[tuple[int, ...]] = []
    encoder = model._predictor.model.image_encoder
    forward = encoder.forward

    def counting(image: torch.Tensor) -> torch.Tensor:
        runs.append(tuple(image.shape))
        return forward(image)

    monkeypatch.setattr(encoder, "forward", counting)
    other = np.ascontiguousarray(IMAGE[:, ::-1])
    first = ask(model, PROMPTS[0])
    mirrored = ask(model, PROMPTS[0], image=other, key="mirrored")
    assert len(runs) == 2
    assert np.array_equal(ask(model, PROMPTS[0]).confidence_map, first.confidence_map)
    assert np.array_equal(
        ask(model, PROMPTS[0], image=other, key="mirrored").confidence_map, mirrored.confidence_map
    )
    assert len(runs) == 2
    ask(model, PROMPTS[0], key="third")  # there is room for two
    ask(model, PROMPTS[0])
    assert len(runs) == 4


def test_requests_on_one_image_share_its_embedding(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = loaded(folder / "small.pth", cache_bytes=256 * 16 * 16 * 4)  # room for one
    encoder = model._predictor.model.image_encoder
    forward = encoder.forward
    runs: list[None] = []

    def counting(image: torch.Tensor) -> torch.Tensor:
        runs.append(None)
        return forward(image)

    monkeypatch.setattr(encoder, "forward", counting)
    mirrored = np.ascontiguousarray(IMAGE[:, ::-1])
    batch = [
        SegmentationInput(
            image=image, image_key=key, prompts=(prompt,), subtask=Subtask.INSTANCE, parameters=Parameters()
        )
        for image, key, prompt in (
            (IMAGE, "image", PROMPTS[0]),
            (mirrored, "mirrored", PROMPTS[0]),
            (IMAGE, "image", PROMPTS[1]),
        )
    ]
    together = model.segment(batch)
    assert len(runs) == 2
    for one, found in zip(batch, together, strict=True):
        [alone] = model.segment([one])
        assert np.array_equal(found.confidence_map, alone.confidence_map)


@torch.inference_mode()
@pytest.mark.parametrize("threshold", [0.0, 0.87, 9.0])
@pytest.mark.parametrize("weights", ["small", "blobs"])
def test_points_are_decoded_as_upstream_does(
    upstream: dict[str, Sam], weights: str, threshold: float
) -> None:
    predictor = SamPredictor(upstream[weights])
    predictor.set_image(IMAGE)
    points = torch.tensor([[12.0, 30.0], [128.5, 60.25], [255.0, 170.0]])
    logits, scores, _ = predictor.predict_torch(points[:, None], torch.ones(3, 1), return_logits=True)
    decoder = PointDecoder(predictor.model, predictor.features)
    found, qualities = decoder.decode(points, threshold)
    wanted = scores > threshold if threshold else torch.ones_like(scores, dtype=torch.bool)
    assert torch.allclose(qualities, scores[wanted], atol=1e-5)
    large = predictor.model.postprocess_masks(found[:, None], predictor.input_size, predictor.original_size)
    assert found.shape == (int(wanted.sum()), 64, 64)
    assert torch.allclose(large[:, 0], logits[wanted], rtol=1e-4, atol=1e-4 * float(logits.abs().max()))


@given(
    st.tuples(st.integers(20, 400), st.integers(20, 400)),
    st.floats(0.0, 1.0),
    st.integers(0, 2**32 - 1),
    st.floats(-60, 40),
)
@settings(max_examples=60, deadline=None)
def test_a_mask_can_not_be_seen_outside_its_window(
    size: tuple[int, int], threshold: float, seed: int, level: float
) -> None:
    model = SMALL
    coarse = np.random.default_rng(seed).normal(level, 15, (5, 5)).astype(np.float32)
    logits = torch.from_numpy(cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_CUBIC))
    input_size = ResizeLongestSide.get_preprocess_shape(*size, model.image_encoder.img_size)
    plane = model.postprocess_masks(logits[None, None], input_size, size)[0, 0].sigmoid().numpy()
    window = window_of(model, logits, input_size, size, threshold)
    whole, part = (SegmentationBuilder(*size, ["it"], threshold) for _ in range(2))
    whole.add("it", plane)
    part.add("it", plane[window.slices], x=window.left, y=window.top)
    wanted, found = whole.build(), part.build()
    assert np.array_equal(found.category_map, wanted.category_map)
    assert np.array_equal(found.confidence_map, wanted.confidence_map)
    assert [one.score for one in found.segments] == pytest.approx([one.score for one in wanted.segments])


EVERYTHING: list[dict[str, Any]] = [
    {},
    {"stability_score_threshold": 0, "pred_iou_threshold": 0},
    {"crop_layers": 1, "crop_points_downscale_factor": 2},
    {"min_mask_region_area": 300},
    {"box_nms_threshold": 0.95, "crop_layers": 1},
]


@pytest.mark.parametrize("options", EVERYTHING, ids=str)
def test_everything_is_what_upstream_finds(
    upstream: dict[str, Sam], folder: Path, options: dict[str, Any]
) -> None:
    options = {"points_per_side": 8, "pred_iou_threshold": 0.5, "stability_score_threshold": 0.5, **options}
    theirs = SamAutomaticMaskGenerator(
        upstream["blobs"],
        points_per_side=options["points_per_side"],
        pred_iou_thresh=options["pred_iou_threshold"],
        stability_score_thresh=options["stability_score_threshold"],
        box_nms_thresh=options.get("box_nms_threshold", 0.7),
        crop_n_layers=options.get("crop_layers", 0),
        crop_n_points_downscale_factor=options.get("crop_points_downscale_factor", 1),
        min_mask_region_area=options.get("min_mask_region_area", 0),
    ).generate(IMAGE)
    found = ask(loaded(folder / "blobs.pth"), **options)
    assert len(theirs) > 1, "the test's weights find nothing"
    assert len(found.segments) == len(theirs)
    unmatched = [one["segmentation"] for one in theirs]
    for segment in found.segments:
        differing = [int((segment.mask ^ other).sum()) for other in unmatched]
        assert min(differing) <= 1, "rounding decides no more than a pixel"
        unmatched.pop(differing.index(min(differing)))
    areas = [int(segment.mask.sum()) for segment in found.segments]
    assert areas == sorted(areas, reverse=True)
    assert [segment.label for segment in found.segments] == [f"segment-{i + 1}" for i in range(len(areas))]
    covered = np.any([segment.mask for segment in found.segments], axis=0)
    assert np.array_equal(found.category_map > 0, covered)


def test_more_masks_than_there_is_memory_for_are_refused(
    model: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_of_them: dict[str, Any] = {
        "pred_iou_threshold": 0.0,
        "stability_score_threshold": 0.0,
        "points_per_side": 4,
    }
    mask_bytes = 64 * 64 * 4
    monkeypatch.setattr(everything, "_ROOM_BYTES", 47 * mask_bytes)
    with pytest.raises(InvalidRequest, match=r"^/parameters: more masks .* raise predIouThreshold"):
        ask(model, **all_of_them)
    monkeypatch.setattr(everything, "_ROOM_BYTES", 48 * mask_bytes)
    kept = ask(model, **all_of_them)
    assert 0 < len(kept.segments) < 48
    monkeypatch.setattr(everything, "_ROOM_BYTES", 48 * mask_bytes)
    with pytest.raises(InvalidRequest):  # the masks at the image's size have no room beside those
        ask(model, **all_of_them, box_nms_threshold=1.0)


@pytest.mark.parametrize("prompts", [(), [Prompt(label="thing", points=((i, i),)) for i in range(1, 41)]])
def test_work_that_nobody_wants_any_more_ends(model: Segmenter, prompts: Sequence[Prompt]) -> None:
    calls = 0

    def wanted_twice() -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise TimeoutError("cancelled")

    one = SegmentationInput(
        image=IMAGE,
        image_key="image",
        prompts=tuple(prompts),
        subtask=Subtask.INSTANCE,
        parameters=Parameters(points_per_side=4),
        check_wanted=wanted_twice,
    )
    with pytest.raises(TimeoutError):
        model.segment([one])
    assert calls == 3
    assert ask(model, PROMPTS[0]).segments


def test_an_image_with_nothing_in_it(model: Segmenter) -> None:
    found = ask(model, points_per_side=2, pred_iou_threshold=1.0)
    assert found.segments == ()
    assert not found.category_map.any()
    assert (found.confidence_map == 255).all()


def test_both_formats_of_a_checkpoint_are_one(folder: Path) -> None:
    one, other = (ask(loaded(folder / f"small.{kind}"), PROMPTS[0]) for kind in ("pth", "safetensors"))
    assert np.array_equal(one.confidence_map, other.confidence_map)


def test_a_checkpoint_fills_all_that_a_model_starts_with(folder: Path, upstream: dict[str, Sam]) -> None:
    with RandomStartLeftOut():
        model = small()
        before = torch.get_rng_state()
        torch.nn.Linear(2, 2), torch.nn.Conv2d(1, 2, 3), torch.nn.Embedding(2, 2)
        assert torch.equal(torch.get_rng_state(), before), "something random was made"
    load_state(model, folder / "small.pth", "a small one")
    for ours, theirs in (
        (model.named_parameters(), upstream["small"].named_parameters()),
        (model.named_buffers(), upstream["small"].named_buffers()),
    ):
        for (name, mine), (other, wanted) in zip(ours, theirs, strict=True):
            assert name == other
            assert torch.equal(mine, wanted), name


def test_a_checkpoint_may_be_of_another_precision_or_age(tmp_path: Path, upstream: dict[str, Sam]) -> None:
    halves = {name: value.half() for name, value in upstream["small"].state_dict().items()}
    torch.save(halves, tmp_path / "half.pth")
    torch.save(halves, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for path in tmp_path.iterdir():
        model = small()
        load_state(model, path, "a small one")
        for name, value in model.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, halves[name].float()), name


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/maskline-was-here"),))


def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path, upstream: dict[str, Sam]) -> None:
    state = upstream["small"].state_dict()
    first = next(iter(state))
    files: dict[str, Any] = {
        "missing": {name: value for name, value in state.items() if name != first},
        "foreign": state | {"more": torch.zeros(1)},
        "reshaped": state | {first: torch.zeros(3)},
        "no tensors": {"a": 1},
        "malicious": {"a": Malicious()},
        "list": [torch.zeros(1)],
    }
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pth")
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "empty.pth").write_bytes(b"")
    for path in tmp_path.iterdir():
        with pytest.raises(WeightsUnusable, match=path.name):
            loaded(path)
    assert not Path("/tmp/maskline-was-here").exists()


def test_absent_weights_and_variants_say_what_to_do(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(WeightsUnusable, match=r"not at .*none\.pth; put them there"):
        loaded(tmp_path / "none.pth")
    resources = Resources(weights=WeightStore(tmp_path))
    with pytest.raises(WeightsUnusable, match=r"no variant 'vit_x'; there are: .*vit_b"):
        load(spec(folder / "small.pth", "vit_x"), resources)
    away = Weights(url="https://example.com/a.pth", sha256="0" * 64)
    absent = spec(folder / "small.pth").model_copy(update={"weights": away})
    with pytest.raises(WeightsUnusable, match="run: maskline models pull tiny"):
        load(absent, resources)


def test_the_models_of_the_catalog_have_a_variant() -> None:
    variants = [str(spec.options["variant"]) for spec in load_catalog().values() if spec.family == "sam"]
    assert sorted(variants) == ["vit_b", "vit_h", "vit_l"]
    assert sam_model_registry.keys() >= set(variants)


def test_vit_b_is_what_upstream_makes_of_it(tmp_path: Path) -> None:
    torch.manual_seed(3)
    theirs = sam_model_registry["vit_b"]()
    torch.save(theirs.state_dict(), tmp_path / "vit_b.pth")
    predictor = SamPredictor(theirs)
    predictor.set_image(IMAGE)
    masks, scores, _ = predictor.predict(**arguments(PROMPTS[0]), multimask_output=False)
    [segment] = ask(loaded(tmp_path / "vit_b.pth", "vit_b"), PROMPTS[0]).segments
    assert np.array_equal(segment.mask, masks[0])
    assert segment.score == pytest.approx(float(np.clip(scores[0], 0, 1)), abs=1e-6)
