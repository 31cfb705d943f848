"""A running service with small models, for clients that we did not write."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from maskline.local import Stack
from tests import tiny_transformers as tiny

_ENTRY = (
    "  - {{id: mine/{name}, aliases: [{name}], family: transformers, displayName: {name}, "
    "weights: {{path: {folder}}}, labels: {labels}, options: {{subtasks: [{subtasks}]}}}}\n"
)
_LABELS = [{"name": f"class {i}", "stuff": i % 2 == 0} for i in range(tiny.CLASSES)]
_SUBTASKS = {
    "segformer": "semantic",
    "maskformer": "panoptic, instance, semantic",
    "mask2former": "semantic, instance, panoptic",
}


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of the small models, by its name."""
    folder = tmp_path_factory.mktemp("weights")
    for name in _SUBTASKS:
        tiny.save(getattr(tiny, name), folder / name)
    return folder


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[Stack]:
    """The service, with GrabCut and the small models."""
    catalog = weights / "catalog.yaml"
    catalog.write_text(
        "models:\n"
        + "".join(
            _ENTRY.format(name=name, folder=weights / name, labels=json.dumps(_LABELS), subtasks=subtasks)
            for name, subtasks in _SUBTASKS.items()
        )
    )
    settings = {
        "MASKLINE_CATALOG_FILE": str(catalog),
        "MASKLINE_WORKER_MODELS": ",".join(["grabcut", *(f"mine/{name}" for name in _SUBTASKS)]),
        "MASKLINE_DEVICE": "cpu",
        "MASKLINE_SWEEP_INTERVAL": "0.3",
        "MASKLINE_MAX_IMAGE_BYTES": "3000000",
    }
    with Stack(tmp_path_factory.mktemp("stack"), environment=settings) as running:
        yield running


@pytest.fixture(scope="session")
def http(stack: Stack) -> Iterator[httpx.Client]:
    """Plain HTTP to it, with the key."""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=120) as connected:
        yield connected
