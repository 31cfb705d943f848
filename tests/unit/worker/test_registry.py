"""Which models a worker offers, and why not others."""

import sys

import pytest

from maskline.catalog import load_catalog
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
