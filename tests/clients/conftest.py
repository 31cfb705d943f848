"""A running service with small models, for clients that we did not write."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from maskline import Client
from maskline.local import Stack
from tests import tiny_transformers as tiny

_ENTRY = (
    "  - {{id: mine/{name}, aliases: [{name}], family: transformers, displayName: {name}, "
    "weights: {{path: {folder}}}, labels: {labels}, options: {{subtasks: [{subtasks}]}}}}\n"
)
SURE = 205 / 1024  #: about half of what the small model finds is surer; the same in 32 bits and in 64
_STREETS = """
  - id: mine/streets
    family: transformers
    displayName: Streets
    weights: {{path: {folder}/segformer}}
    labels:
      - {{name: road, color: "#804080"}}
      - {{name: sky, color: "#4682b4"}}
      - {{name: grass, color: "#00ff00"}}
      - {{name: wall}}
      - {{name: person, color: "#dc143c"}}
    options: {{subtasks: [semantic]}}
    endpoints:
      - {{id: "1234567890123456789", displayName: Sure streets, parameters: {{confidenceThreshold: {sure}}}}}
"""
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
        + _STREETS.format(folder=weights, sure=SURE)
    )
    settings = {
        "MASKLINE_CATALOG_FILE": str(catalog),
        "MASKLINE_WORKER_MODELS": ",".join(
            ["grabcut", "mine/streets", *(f"mine/{name}" for name in _SUBTASKS)]
        ),
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


@pytest.fixture(scope="session")
def native(stack: Stack) -> Iterator[Client]:
    """Our own client of it, for what its results are held against."""
    with Client(stack.url, stack.api_key) as connected:
        yield connected
