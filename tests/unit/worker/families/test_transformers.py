"""Models of the ``transformers`` library against its own post-processing, on the same random weights."""

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from transformers.models.maskformer.image_processing_maskformer import compute_segments

from maskline.catalog import ModelSpec, load_catalog
from maskline.errors import DeviceUnavailable, ImageUnreadable, WeightsUnusable
from maskline.requests import Subtask
from maskline.weights import WeightStore
from tests import tiny_transformers as tiny
from tests.factories import picture
from worker.families.transformers import Parameters, describe, load
from worker.family import Resources, Segmentation, SegmentationInput, Segmenter
from worker.hugging_face import heads, reduction
from worker.hugging_face.queries import Candidates
from worker.hugging_face.regions import ByLargeProbability, ByProbability, find_regions

IMAGE = picture(96, 144)
SIZE = IMAGE.shape[:2]
STUFF = (1, 3)
ALL = [Subtask.PANOPTIC, Subtask.INSTANCE, Subtask.SEMANTIC]
_SUBTASKS = {make.__name__: [Subtask.SEMANTIC] for make in tiny.PIXEL_MODELS} | {
    "rf_detr": [Subtask.INSTANCE]
}


class Loaded:
    """A tiny model by the library, and by us."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.model, self.processor = tiny.save(getattr(tiny, name), folder)
        self.spec = entry(folder, _SUBTASKS.get(name, ALL))
        self.segmenter = load_entry(self.spec)

    @torch.inference_mode()
    def outputs(self, subtask: Subtask) -> Any:
        task = {"task_inputs": [subtask.value]} if self.name == "oneformer" else {}
        features = dict(self.processor(images=[IMAGE], return_tensors="pt", **task))
        patches = features.pop("patch_offsets", None)
        outputs = self.model(**features)
        if patches is not None:
            outputs.patch_offsets = patches
        return outputs

    def by_library(self, subtask: Subtask, **wanted: Any) -> Any:
        images = getattr(self.processor, "image_processor", self.processor)
        method = getattr(images, f"post_process_{subtask}_segmentation")
        known = inspect.signature(method).parameters
        [result] = method(
            self.outputs(subtask), target_sizes=[SIZE], **{k: v for k, v in wanted.items() if k in known}
        )
        return result


def entry(folder: Path, subtasks: list[Subtask], **fields: Any) -> ModelSpec:
    labels = [{"name": f"class {i}", "stuff": i in STUFF} for i in range(tiny.CLASSES)]
    known = {
        "id": "tiny",
        "family": "transformers",
        "displayName": "Tiny",
        "weights": {"path": str(folder)},
        "labels": labels,
        "options": {"subtasks": subtasks},
    }
    return ModelSpec.model_validate(known | fields)


def load_entry(spec: ModelSpec) -> Segmenter:
    return load(spec, Resources(weights=WeightStore(Path("/nowhere")), device="cpu"))


def asked(subtask: Subtask, **parameters: Any) -> SegmentationInput:
    return SegmentationInput(
        image=IMAGE, image_key="", prompts=(), subtask=subtask, parameters=Parameters(**parameters)
    )


def segment(segmenter: Segmenter, subtask: Subtask, **parameters: Any) -> Segmentation:
    [segmentation] = segmenter.segment([asked(subtask, **parameters)])
    return segmentation


def between(values: np.ndarray) -> float:
    """A value in the middle of the widest gap, of those about the median, so that rounding does not count."""
    ordered = np.sort(values.reshape(-1))[values.size // 4 : -values.size // 4]
    widest = int(np.argmax(np.diff(ordered)))
    return float(ordered[widest : widest + 2].mean())


@pytest.fixture(scope="module", params=[make.__name__ for make in (*tiny.PIXEL_MODELS, *tiny.QUERY_MODELS)])
def any_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return Loaded(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module", params=[make.__name__ for make in tiny.QUERY_MODELS])
def query_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return Loaded(request.param, tmp_path_factory.mktemp(request.param))


def test_semantic_is_the_librarys(any_model: Loaded) -> None:
    theirs = any_model.by_library(Subtask.SEMANTIC).numpy()
    ours = segment(any_model.segmenter, Subtask.SEMANTIC)
    assert np.array_equal(ours.category_map, theirs + 1)
    assert {one.label for one in ours.segments} == {f"class {i}" for i in np.unique(theirs)}
    for one in ours.segments:
        assert np.array_equal(one.mask, theirs + 1 == one.category_id)


def test_semantic_confidence_is_the_probability_of_the_category(any_model: Loaded) -> None:
    outputs = any_model.outputs(Subtask.SEMANTIC)
    if getattr(tiny, any_model.name) in tiny.PIXEL_MODELS:
        planes = functional.interpolate(outputs.logits, size=SIZE, mode="bilinear").softmax(1)[0]
    else:
        planes = any_model.by_library(Subtask.SEMANTIC, return_segmentation_scores=True).segmentation_scores
    probabilities = planes.amax(0).clamp(0, 1).double().numpy()
    ours = segment(any_model.segmenter, Subtask.SEMANTIC)
    assert np.abs(ours.confidence_map - 255 * probabilities).max() <= 0.501
    threshold = between(probabilities)
    cut = segment(any_model.segmenter, Subtask.SEMANTIC, confidence_threshold=threshold)
    sure = probabilities >= threshold
    assert np.array_equal(cut.category_map, np.where(sure, ours.category_map, 0))
    expected = 255 * np.where(sure, probabilities, 1 - probabilities)
    assert np.abs(cut.confidence_map - expected).max() <= 0.501


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("subtask", [Subtask.PANOPTIC, Subtask.INSTANCE])
def test_segments_are_the_librarys(query_model: Loaded, subtask: Subtask, threshold: float) -> None:
    wanted = {"threshold": threshold, "mask_threshold": 0.1, "overlap_mask_area_threshold": 0.1}
    theirs = query_model.by_library(
        subtask, **wanted, label_ids_to_fuse=set(STUFF), stuff_classes=list(STUFF)
    )
    ours = segment(query_model.segmenter, subtask, **wanted)
    ids = theirs["segmentation"].numpy()
    infos = {info["id"]: info for info in theirs["segments_info"]}
    expected = np.zeros(SIZE, np.int64)
    for i, info in infos.items():
        expected[ids == i] = info["label_id"] + 1
    assert np.array_equal(ours.category_map, expected)
    assert len(ours.segments) == len(infos)
    if threshold == 0.0:
        assert infos, "the test shows nothing"
    for one, (i, info) in zip(ours.segments, infos.items(), strict=True):
        assert one.category_id == info["label_id"] + 1
        if subtask is Subtask.PANOPTIC:
            assert np.array_equal(one.mask, ids == i)
            best = max(other["score"] for other in theirs["segments_info"] if other["id"] == i)
            assert one.score == pytest.approx(best, abs=1e-6)
        else:  # a later instance covers earlier ones in the library's map
            assert np.all(one.mask[ids == i])
            assert one.score == pytest.approx(info["score"], abs=1e-6)


@pytest.mark.parametrize("subtask", [Subtask.PANOPTIC, Subtask.INSTANCE])
def test_segments_can_be_had_as_in_the_librarys_map(query_model: Loaded, subtask: Subtask) -> None:
    """Neither fused nor overlapping, as the library's pipeline gives them."""
    wanted = {"threshold": 0.0, "mask_threshold": 0.1, "overlap_mask_area_threshold": 0.1}
    theirs = query_model.by_library(subtask, **wanted)
    ids = theirs["segmentation"].numpy()
    ours = segment(query_model.segmenter, subtask, **wanted, fuse_stuff=False, overlapping=False)
    infos = theirs["segments_info"]
    assert [one.category_id for one in ours.segments] == [info["label_id"] + 1 for info in infos]
    for one, info in zip(ours.segments, infos, strict=True):
        assert np.array_equal(one.mask, ids == info["id"])


@pytest.mark.parametrize("claiming", [ByProbability, ByLargeProbability])
def test_a_segment_that_keeps_just_over_the_threshold_stays(claiming: type[ByProbability]) -> None:
    """80 of 100 pixels are more than 0.8 in the library's 32 bits."""
    logits = torch.full((2, 10, 10), 5.0)
    logits[1, :2] = 9.0
    logits[1, 2:] = -9.0
    scores = torch.tensor([0.9, 0.9])
    candidates = Candidates(classes=[0, 1], scores=scores, mask_logits=logits)
    found = find_regions(candidates, (10, 10), claiming((10, 10), 0.5), overlap_mask_area_threshold=0.8)
    _, theirs = compute_segments(
        logits.sigmoid(), scores, torch.tensor([0, 1]), 0.5, 0.8, set(), target_size=(10, 10)
    )
    assert [one.class_index for one in found.segments] == [info["label_id"] for info in theirs] == [0, 1]


def test_a_class_called_background_is_a_class_like_any_other(tmp_path: Path) -> None:
    loaded = Loaded("segformer", tmp_path)
    theirs = loaded.by_library(Subtask.SEMANTIC).numpy()
    present = int(theirs[0, 0])
    labels = [{"name": "background" if i == present else f"class {i}"} for i in range(tiny.CLASSES)]
    ours = segment(load_entry(entry(tmp_path, [Subtask.SEMANTIC], labels=labels)), Subtask.SEMANTIC)
    [background] = [one for one in ours.segments if one.label == "background"]
    assert np.array_equal(background.mask, theirs == present)


@pytest.mark.parametrize("mask_threshold", [0.3, 0.5, 0.51])
def test_rf_detrs_mask_threshold_is_a_probability_too(mask_threshold: float, tmp_path: Path) -> None:
    loaded = Loaded("rf_detr", tmp_path)
    logit = float(torch.logit(torch.tensor(mask_threshold)))
    theirs = loaded.by_library(Subtask.INSTANCE, threshold=0.01, mask_threshold=logit)
    ours = segment(loaded.segmenter, Subtask.INSTANCE, threshold=0.01, mask_threshold=mask_threshold)
    assert len(ours.segments) == len(theirs["segments_info"]) > 0
    for one, info in zip(ours.segments, theirs["segments_info"], strict=True):
        assert one.category_id == info["label_id"] + 1
        assert np.array_equal(one.mask, theirs["segmentation"].numpy() == info["id"])


@pytest.mark.parametrize("name", ["maskformer", "mask2former", "detr", "oneformer", "eomt"])
def test_panoptic_confidence_is_the_weighted_mask_probability(name: str, tmp_path: Path) -> None:
    loaded = Loaded(name, tmp_path)
    outputs = loaded.outputs(Subtask.PANOPTIC)
    logits = outputs.logits if name == "detr" else outputs.class_queries_logits
    masks = outputs.pred_masks if name == "detr" else outputs.masks_queries_logits
    if name == "mask2former":
        masks = functional.interpolate(masks, size=(384, 384), mode="bilinear")
    scores, labels = logits[0].softmax(-1).max(-1)
    kept = (labels < tiny.CLASSES) & (scores > 0.2)
    if name == "eomt":  # it saw the image in the upper part of its frame
        seen = functional.interpolate(masks[:, kept], size=(64, 64), mode="bilinear")[:, :, :43]
        planes = functional.interpolate(seen, size=SIZE, mode="bilinear")[0].sigmoid()
    else:
        planes = functional.interpolate(masks.sigmoid()[:, kept], size=SIZE, mode="bilinear")[0]
    best = (planes * scores[kept, None, None]).amax(0).double().numpy()
    ours = segment(loaded.segmenter, Subtask.PANOPTIC, threshold=0.2)
    right = np.where(ours.category_map > 0, best, 1 - best)
    assert np.abs(ours.confidence_map - 255 * right).max() <= 0.501


def test_oneformers_instances_are_as_sure_as_their_masks(tmp_path: Path) -> None:
    loaded = Loaded("oneformer", tmp_path)
    outputs = loaded.outputs(Subtask.INSTANCE)
    scores = outputs.class_queries_logits[0].softmax(-1)[:, : tiny.CLASSES]
    likely = functional.interpolate(outputs.masks_queries_logits, size=SIZE, mode="bilinear")[0].sigmoid()
    wanted = {"threshold": 0.0, "mask_threshold": 0.1, "overlap_mask_area_threshold": 0.1}
    ours = segment(loaded.segmenter, Subtask.INSTANCE, **wanted)
    for one in ours.segments:
        planes = 255 * scores[:, one.category_id - 1, None, None] * likely
        inside = ours.confidence_map[one.mask]
        assert np.abs(planes[:, one.mask].numpy() - inside).max(axis=1).min() <= 0.51, "it is of no query"
    assert ours.segments


@pytest.mark.parametrize("size", [(96, 144), (150, 90), (70, 70), (64, 400)])
def test_eomt_may_see_an_image_in_parts(size: tuple[int, int], tmp_path: Path) -> None:
    """The semantic models do."""
    torch.manual_seed(30)  # with which it sees several classes
    model, _ = tiny.eomt()
    processor = tiny.library.EomtImageProcessor(
        size={"shortest_edge": 64, "longest_edge": None}, do_pad=False, do_split_image=True
    )
    model.eval().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    image = picture(*size)
    features = processor(images=[image], return_tensors="pt")
    with torch.inference_mode():
        outputs = model(features["pixel_values"])
    outputs.patch_offsets = features["patch_offsets"]
    [theirs] = processor.post_process_semantic_segmentation(outputs, target_sizes=[size])
    one = SegmentationInput(
        image=image, image_key="", prompts=(), subtask=Subtask.SEMANTIC, parameters=Parameters()
    )
    [ours] = load_entry(entry(tmp_path, [Subtask.SEMANTIC])).segment([one])
    assert np.bincount(theirs.flatten()).max() < 0.95 * theirs.numel(), "the test shows little"
    assert np.array_equal(ours.category_map, theirs.numpy() + 1)


@pytest.mark.parametrize("name", ["oneformer", "eomt"])
def test_a_model_that_is_not_known_goes_the_librarys_way(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Loaded(name, tmp_path / "known")
    monkeypatch.delitem(heads.HEADS, name)
    unknown = Loaded(name, tmp_path / "unknown")
    wanted = {"threshold": 0.0, "mask_threshold": 0.1, "overlap_mask_area_threshold": 0.1}
    for subtask in Subtask:
        ours, theirs = (segment(one.segmenter, subtask, **wanted) for one in (known, unknown))
        assert ours.segments
        assert np.array_equal(ours.category_map, theirs.category_map)
        assert [one.label for one in ours.segments] == [one.label for one in theirs.segments]
        assert [one.score for one in ours.segments] == pytest.approx(
            [one.score for one in theirs.segments], abs=1e-5
        )


def test_neighbours_change_nothing(query_model: Loaded) -> None:
    alone = segment(query_model.segmenter, Subtask.PANOPTIC, threshold=0.1)
    other = SegmentationInput(
        image=picture(50, 70),
        image_key="",
        prompts=(),
        subtask=Subtask.SEMANTIC,
        parameters=Parameters(),
    )
    _, among, _ = query_model.segmenter.segment([other, asked(Subtask.PANOPTIC, threshold=0.1), other])
    assert np.array_equal(alone.category_map, among.category_map)
    assert np.array_equal(alone.confidence_map, among.confidence_map)


@given(
    classes=st.integers(1, 6),
    small=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    large=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    are_logits=st.booleans(),
    seed=st.integers(0, 1000),
)
@pytest.mark.parametrize("way", [reduction.most_likely, reduction._by_planes])
def test_reduction_is_interpolation_and_argmax(
    way: Any, classes: int, small: Any, large: Any, are_logits: bool, seed: int
) -> None:
    scores = torch.randn(classes, *small, generator=torch.Generator().manual_seed(seed)) * 4
    if not are_logits:
        scores = scores.sigmoid()
    planes = functional.interpolate(scores[None], size=large, mode="bilinear", align_corners=False)[0]
    found, probabilities = way(scores, large, are_logits=are_logits)
    values = np.take_along_axis(planes.numpy(), found[None].astype(np.int64), 0)[0]
    assert np.array_equal(values, planes.amax(0).numpy())
    expected = (planes.softmax(0) if are_logits else planes).amax(0).numpy()
    assert np.abs(probabilities - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("labels", "count", "first", "last"),
    [("ade20k", 150, "wall", "flag"), ("coco_panoptic", 133, "person", "rug-merged")],
)
def test_shipped_labels(labels: str, count: int, first: str, last: str) -> None:
    specs = describe(entry(Path("/nowhere"), [Subtask.SEMANTIC], labels=labels)).annotation_specs
    assert [spec.id for spec in specs] == list(range(count + 1))
    assert (specs[1].display_name, specs[-1].display_name) == (first, last)


def test_labels_come_from_the_weights_where_the_catalog_names_none(tmp_path: Path) -> None:
    tiny.save(tiny.segformer, tmp_path)
    spec = entry(tmp_path, [Subtask.SEMANTIC], labels=None)
    assert [one.display_name for one in describe(spec).annotation_specs][1:] == [
        f"class {i}" for i in range(tiny.CLASSES)
    ]
    assert segment(load_entry(spec), Subtask.SEMANTIC).category_map.max() <= tiny.CLASSES


def test_every_shipped_entry_can_be_described() -> None:
    for spec in load_catalog().values():
        if spec.family == "transformers":
            card = describe(spec)
            assert card.subtasks
            assert len(card.annotation_specs) > 1


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/maskline-was-here"),))


def break_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def garble_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def make_classifier(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def lose_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickle_weights(folder: Path) -> None:
    lose_weights(folder)
    torch.save({"weight": Evil()}, folder / "pytorch_model.bin")


def save_another_model(folder: Path) -> None:
    kept = (folder / "config.json").read_bytes()
    tiny.save(tiny.beit, folder)
    (folder / "config.json").write_bytes(kept)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (break_config, r"has no config\.json; give a folder"),
        (garble_config, r"config\.json can't be read"),
        (make_classifier, "'bert' is no segmentation model"),
        (cut_weights, "can't be loaded"),
        (lose_weights, "can't be loaded"),
        (pickle_weights, "can't be loaded"),
        (save_another_model, "can't be loaded"),
    ],
)
def test_bad_weights(tmp_path: Path, harm: Any, message: str) -> None:
    tiny.save(tiny.segformer, tmp_path)
    harm(tmp_path)
    with pytest.raises(WeightsUnusable, match=message):
        load_entry(entry(tmp_path, [Subtask.SEMANTIC]))
    assert not Path("/tmp/maskline-was-here").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": ["one", "two"]}, "head has 5 classes, but 2 are named"),
        ({"options": {"subtasks": ["panoptic"]}}, r"does not do panoptic; .*subtasks: \[semantic"),
    ],
)
def test_entries_that_do_not_fit(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    tiny.save(tiny.beit, tmp_path)
    with pytest.raises(WeightsUnusable, match=message):
        load_entry(entry(tmp_path, [Subtask.SEMANTIC], **fields))


def test_the_entrys_device_comes_before_the_workers(tmp_path: Path) -> None:
    tiny.save(tiny.beit, tmp_path)
    with pytest.raises(DeviceUnavailable, match="there is no cuda:77"):
        load_entry(entry(tmp_path, [], options={"device": "cuda:77"}))


def test_an_image_too_narrow_for_the_models_preparation_is_told(tmp_path: Path) -> None:
    loaded = Loaded("detr", tmp_path)
    narrow = SegmentationInput(
        image=np.zeros((400, 1, 3), np.uint8),
        image_key="",
        prompts=(),
        subtask=Subtask.SEMANTIC,
        parameters=Parameters(),
    )
    with pytest.raises(ImageUnreadable, match="can't do with an image of 1 x 400 pixels"):
        loaded.segmenter.segment([narrow])


def test_extreme_logits_give_a_probability() -> None:
    scores = torch.randn(9, 20, 20, generator=torch.Generator().manual_seed(0)) * 60
    for way in (reduction.most_likely, reduction._by_planes):
        _, probabilities = way(scores, (90, 90), are_logits=True)
        assert np.all((probabilities >= 0) & (probabilities <= 1))
