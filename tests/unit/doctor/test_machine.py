"""This machine: its models, weights, device and disk."""

import hashlib
from pathlib import Path

import pytest
import yaml

from maskline.doctor import machine
from maskline.doctor.finding import Finding, Health
from maskline.settings import Settings

WEIGHTS = b"weights"


def catalog(folder: Path, weights: Path | None) -> dict[str, str]:
    """Variables for a catalog with a model of its own, which needs no torch."""
    entry = {"id": "mine", "family": "grabcut", "displayName": "Mine"}
    if weights is not None:
        url = f"https://example.com/{weights.name}"
        entry |= {"weights": {"url": url, "sha256": hashlib.sha256(WEIGHTS).hexdigest()}}  # type: ignore[dict-item]
    file = folder / "models.yaml"
    file.write_text(yaml.safe_dump({"models": [entry]}))
    return {
        "MASKLINE_CATALOG_FILE": str(file),
        "MASKLINE_WORKER_MODELS": "mine",
        "MASKLINE_WEIGHTS_DIR": str(folder),
    }


def seen(environ: dict[str, str]) -> dict[str, Finding]:
    return {finding.check: finding for finding in machine.look(Settings.from_env(environ))}


def test_a_model_without_weights_is_well(tmp_path: Path) -> None:
    found = seen(catalog(tmp_path, None))
    assert {check for check, finding in found.items() if finding.health is Health.FAILED} == set()
    assert set(found) == {"catalog", "device", "models here", "weights", "disk of the weights"}


def test_weights_must_be_there_and_whole(tmp_path: Path) -> None:
    weights = tmp_path / "mine" / "w.bin"
    environ = catalog(tmp_path, weights)
    absent = seen(environ)["weights"]
    assert (absent.health, absent.remedy) == (Health.FAILED, "maskline models pull mine")
    weights.parent.mkdir()
    weights.write_bytes(WEIGHTS)
    assert seen(environ)["weights"] == Finding.ok("weights", "whole: mine")
    weights.write_bytes(WEIGHTS[:-1])
    assert seen(environ)["weights"].health is Health.FAILED


def test_models_that_are_not_in_the_catalog_are_told() -> None:
    found = seen({"MASKLINE_WORKER_MODELS": "no_such_model"})
    assert found["catalog"].health is Health.FAILED
    assert "no_such_model" in found["catalog"].detail


def test_a_catalog_that_is_none_is_told(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("models: 3")
    assert seen({"MASKLINE_CATALOG_FILE": str(file)})["catalog"].health is Health.FAILED


def test_a_device_that_is_not_there_is_told(tmp_path: Path) -> None:
    found = seen(catalog(tmp_path, None) | {"MASKLINE_DEVICE": "cuda:99"})
    assert found["device"].health is Health.FAILED
    assert "cuda:99" in found["device"].detail


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_NOTHING_BYTES", "_LITTLE_BYTES"):
        monkeypatch.setattr(machine, "_NOTHING_BYTES", 0)
        monkeypatch.setattr(machine, "_LITTLE_BYTES", 0)
        [room] = machine.look_at_disk("disk", tmp_path)
        assert room.health is Health.OK
        monkeypatch.setattr(machine, name, 1 << 62)  # a disk on which that little is free
        [told] = machine.look_at_disk("disk", tmp_path)
        assert told.health is (Health.FAILED if name == "_NOTHING_BYTES" else Health.WARNING)
    assert list(machine.look_at_disk("disk", tmp_path / "nowhere")) == []
