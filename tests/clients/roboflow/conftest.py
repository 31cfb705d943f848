"""A running service for the clients of others: GrabCut, and small models that know categories.

Segment Anything's routes run GrabCut here; ``tests/service/test_models.py`` holds them against upstream.
"""

from collections.abc import Iterator

import pytest

from maskline import Client
from maskline.local import Stack
from tests import tiny_transformers as tiny

CATALOG = """
models:
  - id: grabcut
    aliases: [grabcut/1, sam/vit_h, sam2/hiera_tiny]
    family: grabcut
    displayName: GrabCut
  - id: mine/segformer
    family: transformers
    displayName: Semantic
    weights: {{path: {folder}/segformer}}
    options: {{subtasks: [semantic]}}
  - id: mine/mask2former
    family: transformers
    displayName: Instances
    weights: {{path: {folder}/mask2former}}
    options: {{subtasks: [panoptic, instance, semantic]}}
"""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One service for all."""
    folder = tmp_path_factory.mktemp("clients")
    for make in (tiny.segformer, tiny.mask2former):
        tiny.save(make, folder / make.__name__)
    (folder / "catalog.yaml").write_text(CATALOG.format(folder=folder))
    settings = {
        "MASKLINE_CATALOG_FILE": str(folder / "catalog.yaml"),
        "MASKLINE_WORKER_MODELS": "grabcut,mine/segformer,mine/mask2former",
        "MASKLINE_DEVICE": "cpu",
        "MASKLINE_OUTGOING_ALLOW": "127.0.0.1",
        "MASKLINE_MAX_IMAGE_BYTES": "3000000",
    }
    with Stack(folder / "stack", environment=settings) as running:
        yield running


@pytest.fixture(scope="session")
def native(stack: Stack) -> Iterator[Client]:
    """Our own client, which tells what is right."""
    with Client(stack.url, stack.api_key) as connected:
        yield connected
