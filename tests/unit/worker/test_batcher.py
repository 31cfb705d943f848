"""One thread per model: order, company, faults, and models that come and go."""

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maskline.catalog import ModelSpec, Weights
from maskline.errors import InvalidRequest, ModelNotFound, WeightsUnusable
from maskline.requests import Priority, Subtask
from maskline.settings import SettingsError
from maskline.weights import WeightStore
from worker.batcher import Batcher
from worker.colors import annotation_specs
from worker.family import CommonParameters, Resources, Segmentation, SegmentationInput
from worker.registry import Registry, family_names, load_family
from worker.residency import Residency

RESOURCES = Resources(weights=WeightStore(Path("nowhere")))


def image(value: int) -> SegmentationInput:
    return SegmentationInput(
        image=np.full((2, 2, 3), value, np.uint8),
        image_key=str(value),
        prompts=(),
        subtask=Subtask.SEMANTIC,
        parameters=CommonParameters(),
    )


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Recorder:
    """A model that notes its batches, and fails on images of value 13."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[str] = set()
        self._gate = gate

    def segment(self, inputs: Sequence[SegmentationInput]) -> Sequence[Segmentation]:
        if self._gate is not None:
            self._gate.wait(10)
        values = [int(one.image[0, 0, 0]) for one in inputs]
        self.batches.append(values)
        self.threads.add(threading.current_thread().name)
        if 13 in values:
            raise RuntimeError("unlucky")
        return [
            Segmentation(
                category_map=np.full((2, 2), value, np.uint8),
                confidence_map=np.zeros((2, 2), np.uint8),
                segments=(),
                annotation_specs=annotation_specs([]),
            )
            for value in values
        ]


def test_an_image_that_nobody_wants_any_more_is_not_run() -> None:
    def unwanted() -> None:
        raise TimeoutError("cancelled")

    gate = threading.Event()
    model = Recorder(gate)
    batcher = Batcher("m", lambda: model, max_batch_size=4, batch_wait_s=0)
    batcher.submit(image(0), Priority.INTERACTIVE)
    others = [
        batcher.submit(replace(image(value), check_wanted=check), Priority.INTERACTIVE)
        for value, check in ((1, unwanted), (2, lambda: None), (3, unwanted))
    ]
    gate.set()
    assert others[1].result(10).segmentation.category_map[0, 0] == 2
    for lost in (others[0], others[2]):
        with pytest.raises(TimeoutError):
            lost.result(10)
    assert {value for batch in model.batches for value in batch} == {0, 2}
    assert batcher.is_idle


def test_waiting_images_run_together_and_each_gets_its_own_result() -> None:
    gate = threading.Event()
    model = Recorder(gate)
    batcher = Batcher("m", lambda: model, max_batch_size=4, batch_wait_s=0)
    first = batcher.submit(image(0), Priority.INTERACTIVE)
    others = [batcher.submit(image(value), Priority.INTERACTIVE) for value in range(1, 8)]
    gate.set()
    results = [future.result(10).segmentation.category_map[0, 0] for future in (first, *others)]
    assert results == list(range(8))
    assert [value for batch in model.batches for value in batch] == list(range(8))
    assert max(len(batch) for batch in model.batches) == 4
    assert model.threads == {"model-m"}
    batcher.close()


def test_an_image_waits_for_company_but_not_for_ever() -> None:
    model = Recorder()
    batcher = Batcher("m", lambda: model, max_batch_size=2, batch_wait_s=0.2)
    pair = [batcher.submit(image(1), Priority.INTERACTIVE), batcher.submit(image(2), Priority.INTERACTIVE)]
    assert all(future.result(10) for future in pair)
    assert model.batches == [[1, 2]]
    modelled = batcher.submit(image(3), Priority.INTERACTIVE).result(10)
    assert modelled.waited_s >= 0.19
    batcher.close()


def test_one_bad_image_does_not_fail_its_neighbours() -> None:
    gate = threading.Event()
    model = Recorder(gate)
    batcher = Batcher("m", lambda: model, max_batch_size=8, batch_wait_s=0)
    futures = {value: batcher.submit(image(value), Priority.INTERACTIVE) for value in (1, 2, 13, 3)}
    gate.set()
    with pytest.raises(RuntimeError, match="unlucky"):
        futures[13].result(10)
    assert [futures[value].result(10).segmentation.category_map[0, 0] for value in (1, 2, 3)] == [1, 2, 3]
    assert batcher.is_idle
    batcher.close()


def test_a_model_that_loses_an_image_fails_it_and_goes_on() -> None:
    model = Recorder()
    whole = model.segment
    model.segment = lambda inputs: whole(inputs)[1:]  # type: ignore[method-assign]
    batcher = Batcher("m", lambda: model, max_batch_size=2, batch_wait_s=0)
    with pytest.raises(RuntimeError, match="0 segmentations of 1 images"):
        batcher.submit(image(1), Priority.INTERACTIVE).result(10)
    model.segment = whole  # type: ignore[method-assign]
    assert batcher.submit(image(2), Priority.INTERACTIVE).result(10)
    assert batcher.is_idle
    batcher.close()


def test_a_model_that_idles_keeps_no_image_alive() -> None:
    batcher = Batcher("m", Recorder, max_batch_size=2, batch_wait_s=0)
    kept = image(1)
    pixels = weakref.ref(kept.image)
    batcher.submit(kept, Priority.INTERACTIVE).result(10)
    del kept
    wait_until(lambda: pixels() is None)
    batcher.close()


def test_a_model_that_can_not_be_loaded_is_tried_again() -> None:
    loads: list[Callable[[], Recorder]] = []

    def load() -> Recorder:
        loads.append(load)
        if len(loads) == 1:
            raise WeightsUnusable("not yet")
        return Recorder()

    batcher = Batcher("m", load, max_batch_size=1, batch_wait_s=0)
    with pytest.raises(WeightsUnusable, match="not yet"):
        batcher.submit(image(1), Priority.INTERACTIVE).result(10)
    assert batcher.submit(image(1), Priority.INTERACTIVE).result(10)
    assert len(loads) == 2
    batcher.close()


class FakeFamily:
    """A family whose models note when they were loaded."""

    Parameters = CommonParameters

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load(self, spec: ModelSpec, resources: Resources) -> Recorder:
        self.loaded.append(spec.id)
        return Recorder()


def residency(
    family: FakeFamily,
    *models: str,
    max_loaded: int = 2,
    max_bytes: int | None = None,
    folder: Path | None = None,
) -> Residency:
    registry = Registry({})
    registry.specs = {
        name: ModelSpec(
            id=name,
            family="grabcut",
            display_name=name,
            weights=Weights(path=folder / name) if folder else None,
        )
        for name in models
    }
    registry.families = dict.fromkeys(models, family)  # type: ignore[arg-type]
    return Residency(registry, RESOURCES, max_loaded=max_loaded, max_bytes=max_bytes, batch_wait_s=0)


def test_the_model_used_least_recently_leaves_first() -> None:
    family = FakeFamily()
    models = residency(family, "a", "b", "c")
    for name in ("a", "b", "a", "c", "a", "b"):
        models.submit(name, image(1), Priority.INTERACTIVE).result(10)
    assert family.loaded == ["a", "b", "c", "b"]
    models.close()


def test_models_beyond_the_memory_leave_too(tmp_path: Path) -> None:
    for name, size in (("a", 30), ("b", 40), ("c", 50)):
        (tmp_path / name).write_bytes(bytes(size))
    family = FakeFamily()
    models = residency(family, "a", "b", "c", max_loaded=9, max_bytes=100, folder=tmp_path)
    for name in ("a", "b", "a", "c", "a", "b"):
        models.submit(name, image(1), Priority.INTERACTIVE).result(10)
    assert family.loaded == ["a", "b", "c", "b"]
    models.close()


def test_a_batch_too_large_for_the_memory_is_run_in_halves() -> None:
    gate = threading.Event()
    model = Recorder(gate)
    whole = model.segment

    def segment(inputs: Sequence[SegmentationInput]) -> Sequence[Segmentation]:
        gate.wait(10)
        if len(inputs) > 2:
            raise MemoryError
        return whole(inputs)

    model.segment = segment  # type: ignore[method-assign]
    batcher = Batcher("m", lambda: model, max_batch_size=8, batch_wait_s=0.2)
    futures = [batcher.submit(image(value), Priority.INTERACTIVE) for value in range(8)]
    gate.set()
    assert [future.result(10).segmentation.category_map[0, 0] for future in futures] == list(range(8))
    assert [len(batch) for batch in model.batches] == [2, 2, 2, 2]
    batcher.close()


def test_an_unknown_model_or_parameter_is_refused() -> None:
    models = residency(FakeFamily(), "a")
    with pytest.raises(ModelNotFound):
        models.submit("z", image(1), Priority.INTERACTIVE)
    with pytest.raises(InvalidRequest, match="confidenceThreshold"):
        models.parameters("a", {"confidenceThreshold": 7})
    assert models.parameters("a", {"confidenceThreshold": 0.25}).confidence_threshold == 0.25


def test_the_folder_is_the_registry() -> None:
    assert "grabcut" in family_names()
    with pytest.raises(ValueError, match="grabcut"):
        load_family("os")
    misspelt = ModelSpec(id="ours", family="grabcat", display_name="O")
    with pytest.raises(
        SettingsError, match="entry 'ours': family: there is no 'grabcat'; there are: grabcut"
    ):
        Registry({"ours": misspelt}, ["ours"])
    with pytest.raises(SettingsError, match="not in the catalog: nothing"):
        Registry({}, ["nothing"])


@pytest.mark.parametrize("name", sorted(family_names()))
def test_every_family_describes_its_models(name: str) -> None:
    options = {"sam": {"variant": "vit_b"}}.get(name, {})
    spec = ModelSpec(
        id="some/model", family=name, display_name="Some", weights=Weights(path="none"), options=options
    )
    card = load_family(name).describe(spec)
    assert (card.id, card.family) == ("some/model", name)
    assert card.subtasks
    assert "confidenceThreshold" in card.parameters_schema["properties"]  # type: ignore[operator]
    assert card.parameters_schema["additionalProperties"] is False


def test_an_entry_with_wrong_options_is_left_out_or_told() -> None:
    wrong = ModelSpec(
        id="wrong",
        family="transformers",
        display_name="W",
        weights=Weights(hub="a/b"),
        options={"variant": "vit_b"},
    )
    right = ModelSpec(id="right", family="grabcut", display_name="R")
    catalog = {spec.id: spec for spec in (wrong, right)}
    assert [card.id for card in Registry(catalog).cards()] == ["right"]
    with pytest.raises(SettingsError, match=r"entry 'wrong': options\.variant: there is no such field"):
        Registry(catalog, ["wrong"])
