"""Which models a worker offers, and why not others."""

import sys
from pathlib import Path

import pytest

from maskline.catalog import ModelSpec, NotACatalog, load_catalog
from maskline.settings import SettingsError
from worker.registry import Registry, left_out


def test_models_whose_packages_are_missing_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = load_catalog()
    assert left_out(catalog) == {}
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    remedy = "the model family 'sam' needs segment_anything; run: pip install 'maskline[sam]'"
    reasons = left_out(catalog)
    assert reasons == dict.fromkeys(("sam_vit_b", "sam_vit_l", "sam_vit_h"), remedy)
    offered = {card.id for card in Registry(catalog).cards()}
    assert offered == catalog.keys() - reasons.keys()
    with pytest.raises(SettingsError, match="needs segment_anything"):
        Registry(catalog, ["sam_vit_b"])


def test_a_cards_revision_changes_with_what_decides_the_result() -> None:
    spec = load_catalog()["sam_vit_b"]

    def revision(**changes: object) -> str:
        [card] = Registry({spec.id: spec.model_copy(update=changes)}).cards()
        return card.revision

    assert revision() == revision(description="other", aliases=("other",)) != ""
    weights = spec.weights.model_copy(update={"sha256": "0" * 64}) if spec.weights else None
    assert len({revision(), revision(weights=weights), revision(options={"variant": "vit_l"})}) == 3


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("{id: a, parameters: {confidenceThreshold: 2}}", "endpoint 'a': parameters.confidenceThreshold: "),
        ("{id: a, parameters: {nothing: 2}}", "endpoint 'a': parameters.nothing: there is no such field"),
        ("{id: a, subtask: panoptic}", "endpoint 'a': subtask: give one of instance, semantic"),
        ("{id: a/b}", r"mine: endpoints\[0\]\.id: give letters, digits, _ and -, at most 128 in all"),
    ],
)
def test_an_endpoint_whose_defaults_the_model_does_not_take(
    tmp_path: Path, endpoint: str, fault: str
) -> None:
    with pytest.raises((SettingsError, NotACatalog), match=fault):
        Registry(catalog_with(tmp_path, endpoint), ["mine"])


def test_a_card_has_its_endpoints(tmp_path: Path) -> None:
    endpoint = "{id: a_1-b, displayName: A, subtask: instance, parameters: {confidenceThreshold: 0.3}}"
    [card] = Registry(catalog_with(tmp_path, endpoint), ["mine"]).cards()
    [known] = card.endpoints
    assert (known.id, known.display_name, known.subtask) == ("a_1-b", "A", "instance")
    assert known.parameters == {"confidenceThreshold": 0.3}


def catalog_with(folder: Path, endpoint: str) -> dict[str, ModelSpec]:
    file = folder / "own.yaml"
    file.write_text(
        f"models:\n  - {{id: mine, family: grabcut, displayName: Mine, endpoints: [{endpoint}]}}\n"
    )
    return load_catalog(file)
