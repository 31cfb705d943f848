"""Segment Anything against the upstream package, on the same random weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from maskline.catalog import ModelSpec, Weights, load_catalog
from maskline.errors import WeightsUnusable
from maskline.requests import Prompt, Subtask
from maskline.weights import WeightStore
from tests.factories import picture
from worker.checkpoint import RandomStartLeftOut, load_state
from worker.families.sam import Parameters, load
from worker.family import Resources, Segmentation, SegmentationInput, Segmenter


class BlobDecoder(MaskDecoder):  # type: ignore[misc]
    """Upstream's decoder, to whose logits a blob is added at a place that the prompt determines.

    Random weights alone give masks all over the image; a trained model's are local, and of many sizes.
    """

    def forward(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        logits, scores = super().forward(*args, **kwargs)
        mixing = torch.sin(torch.arange(3 * 256, dtype=torch.float).reshape(256, 3))
        x, y, radius = torch.sigmoid(kwargs["sparse_prompt_embeddings"][:, 0] @ mixing / 4).unbind(1)
        side = logits.shape[-1]
        rows, columns = torch.meshgrid(torch.arange(side) / side, torch.arange(side) / side, indexing="ij")
        distance = torch.hypot(columns - x[:, None, None], rows * 1.5 - y[:, None, None])
        sizes = radius[:, None] * torch.tensor([0.2, 0.35, 0.5, 0.1])[: logits.shape[1]]
        blobs = 60 * (sizes[:, :, None, None] - distance[:, None])
        return 0.3 * logits + blobs, torch.sin(40 * scores + sizes) * 0.2 + 0.8


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


def small_with_blobs() -> Sam:
    """The same, for the automatic mode."""
    model = small()
    model.mask_decoder.__class__ = BlobDecoder
    return model


VARIANTS = {"small": small, "blobs": small_with_blobs}
IMAGE = picture(120, 180)


@pytest.fixture(scope="module", autouse=True)
def variants() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, build in VARIANTS.items():
            patch.setitem(sam_model_registry, name, build)
        yield


@pytest.fixture(scope="module")
def upstream() -> dict[str, Sam]:
    """Each variant with the same random weights."""
    torch.manual_seed(7)
    state = small().state_dict()
    models = {name: build() for name, build in VARIANTS.items()}
    for model in models.values():
        model.load_state_dict(state)
    return models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, upstream: dict[str, Sam]) -> Path:
    """Where the checkpoint is, in both formats."""
    folder = tmp_path_factory.mktemp("weights")
    state = upstream["small"].state_dict()
    torch.save(state, folder / "small.pth")
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
    }


PROMPTS = [
    Prompt(label="box", box=(20, 12, 62, 55)),
    Prompt(label="point", points=((40, 32),)),
    Prompt(label="points", points=((40, 32), (150, 100)), point_labels=(1, 0)),
    Prompt(label="both", box=(20, 12, 62, 55), points=((40, 32), (21, 13)), point_labels=(1, 0)),
    Prompt(label="fraction", box=(20.25, 12.5, 62.75, 55.125)),
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
    assert np.array_equal(segment.mask, logits[best] > 0)
    assert segment.score == pytest.approx(min(1.0, float(scores[best])), abs=1e-6)
    probability = 1 / (1 + np.exp(-logits[best].astype(np.float64)))
    sure = np.where(segment.mask, probability, 1 - probability)
    assert np.abs(found.confidence_map - 255 * sure).max() <= 0.51
    assert np.array_equal(found.category_map, segment.mask)


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
    found = ask(loaded(folder / "small.pth", "blobs"), **options)
    assert len(theirs) > 1, "the test's weights find nothing"
    assert sorted(segment.mask.tobytes() for segment in found.segments) == sorted(
        one["segmentation"].tobytes() for one in theirs
    )
    areas = [int(segment.mask.sum()) for segment in found.segments]
    assert areas == sorted(areas, reverse=True)
    assert [segment.label for segment in found.segments] == [f"segment-{i + 1}" for i in range(len(areas))]
    covered = np.any([segment.mask for segment in found.segments], axis=0)
    assert np.array_equal(found.category_map > 0, covered)


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
