"""Which models are in memory: loaded when first asked for; the one used least recently leaves first."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial

from pydantic import ValidationError

from maskline.errors import Fault, InvalidRequest, ModelNotFound
from maskline.plain_words import words
from maskline.requests import Priority
from worker.batcher import Batcher, Modelled
from worker.family import CommonParameters, Resources, SegmentationInput
from worker.registry import Registry


class Residency:
    """Hands images to the batchers of their models."""

    def __init__(
        self,
        registry: Registry,
        resources: Resources,
        *,
        max_loaded: int,
        max_bytes: int | None,
        batch_wait_s: float,
    ) -> None:
        """``max_loaded``: most models in memory; ``max_bytes``: most bytes of weights, None for any. More are
        kept only while all of them are busy."""
        self._registry = registry
        self._resources = resources
        self._max_loaded = max_loaded
        self._max_bytes = max_bytes
        self._batch_wait_s = batch_wait_s
        self._batchers: OrderedDict[str, Batcher] = OrderedDict()
        self._lock = threading.Lock()

    def submit(self, model: str, image: SegmentationInput, priority: Priority) -> Future[Modelled]:
        """The model's result for the image, to come.

        Raises:
            ModelNotFound: this worker does not have the model.
        """
        with self._lock:
            batcher = self._batchers.get(model) or self._load(model)
            self._batchers.move_to_end(model)
            return batcher.submit(image, priority)

    def parameters(self, model: str, values: Mapping[str, object]) -> CommonParameters:
        """The parameters of a request, as the model's family reads them.

        Raises:
            ModelNotFound: this worker does not have the model.
            InvalidRequest: they don't fit; the API checked them against the card of another version.
        """
        if model not in self._registry.families:
            raise ModelNotFound(f"this worker does not have the model {model!r}")
        try:
            return self._registry.families[model].Parameters.model_validate(values)
        except ValidationError as error:
            raise InvalidRequest(
                [Fault("/parameters/" + "/".join(map(str, e["loc"])), words(e)) for e in error.errors()]
            ) from error

    def close(self) -> None:
        """Let all models go."""
        with self._lock:
            for batcher in self._batchers.values():
                batcher.close()
            self._batchers.clear()

    def _load(self, model: str) -> Batcher:
        spec = self._registry.specs.get(model)
        if spec is None:
            raise ModelNotFound(f"this worker does not have the model {model!r}")
        self._make_room(self._resources.weights.size(spec))
        batcher = self._batchers[model] = Batcher(
            model,
            partial(self._registry.families[model].load, spec, self._resources),
            max_batch_size=spec.max_batch_size,
            batch_wait_s=self._batch_wait_s,
        )
        return batcher

    def _make_room(self, coming_bytes: int) -> None:
        for model in list(self._batchers):
            if len(self._batchers) < self._max_loaded and self._fits(coming_bytes):
                return
            if self._batchers[model].is_idle:
                self._batchers.pop(model).close()

    def _fits(self, coming_bytes: int) -> bool:
        if self._max_bytes is None:
            return True
        size = self._resources.weights.size
        here_bytes = sum(size(self._registry.specs[model]) for model in self._batchers)
        return here_bytes + coming_bytes <= self._max_bytes
