"""A running service: real Redis, real S3, real workers, real API."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from maskline import Client
from maskline.adapters.s3_artifacts import S3ArtifactStore
from maskline.local import Stack
from maskline.settings import Settings

QUICK = {
    "MASKLINE_LEASE": "2",
    "MASKLINE_SWEEP_INTERVAL": "0.3",
    "MASKLINE_REPUBLISH_AFTER": "2",
    "MASKLINE_OUTGOING_ALLOW": "127.0.0.1",
    "MASKLINE_MAX_IMAGE_BYTES": "3000000",
    "MASKLINE_MAX_IMAGE_PIXELS": "2000000",
    "MASKLINE_MAX_IMAGE_SIDE": "3000",
    "MASKLINE_MAX_WAITERS": "6",
}


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One service for all tests that leave it whole."""
    with Stack(tmp_path_factory.mktemp("stack"), environment=QUICK) as running:
        yield running


@pytest.fixture(scope="session")
def client(stack: Stack) -> Iterator[Client]:
    """Our own client of it."""
    with Client(stack.url, stack.api_key) as connected:
        yield connected


@pytest.fixture(scope="session")
def http(stack: Stack) -> Iterator[httpx.Client]:
    """Plain HTTP to it, with the key."""
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as connected:
        yield connected


@pytest.fixture(scope="session")
def artifacts(stack: Stack) -> S3ArtifactStore:
    """Its S3."""
    return S3ArtifactStore.from_settings(Settings.from_env(stack.environment))


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """A service of the test's own, to be harmed."""
    with Stack(tmp_path / "own", environment=QUICK) as running:
        yield running
