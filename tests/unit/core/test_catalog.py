"""Catalogs: read, and what is wrong with them told in plain words."""

from pathlib import Path

import pytest

from maskline.catalog import ClassLabel, LabelList, NotACatalog, add_to_catalog, load_catalog


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "own.yaml"


def test_labels_are_a_list_of_ours_or_of_ones_own(file: Path) -> None:
    file.write_text(
        """\
models:
  - {id: shipped, family: transformers, displayName: S, labels: ade20k}
  - id: own
    family: transformers
    displayName: O
    labels: [field, {name: sky, color: "#7FBF3f", stuff: true}]
  - {id: none, family: transformers, displayName: N}
"""
    )
    known = load_catalog(file)
    assert known["shipped"].labels is LabelList.ADE20K
    assert len(known["shipped"].classes()) == 150
    assert known["own"].classes() == (
        ClassLabel(name="field"),
        ClassLabel(name="sky", color="#7fbf3f", stuff=True),
    )
    assert known["none"].classes() == ()
    copy = file.with_name("copy.yaml")
    for spec in (known["shipped"], known["own"]):
        add_to_catalog(copy, spec)
    copied = load_catalog(copy)
    assert (copied["shipped"], copied["own"]) == (known["shipped"], known["own"])


GOOD = "id: a, family: sam, displayName: A"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("{family: sam, displayName: A}", "model 2 of the list: id: this field is required"),
        ("7", "model 2 of the list: give fields with their values"),
        (
            "{id: -a, family: sam, displayName: A}",
            "-a: id: give letters, digits and . _ / -, the first a letter or digit, at most 256 in all",
        ),
        (
            "{id: a, family: SAM!, displayName: A}",
            "a: family: give the name of a family, such as transformers",
        ),
        ("{id: a, family: sam}", "a: displayName: this field is required"),
        (f"{{{GOOD}, licence: MIT}}", "a: licence: there is no such field"),
        (f"{{{GOOD}, labels: ade}}", "a: labels: give ade20k, coco_panoptic or a list of classes"),
        (f"{{{GOOD}, labels: 7}}", "a: labels: give ade20k, coco_panoptic or a list of classes"),
        (
            f"{{{GOOD}, labels: [x, {{name: y, color: red}}]}}",
            'a: labels[1].color: give a colour as "#rrggbb"',
        ),
        (
            f"{{{GOOD}, labels: [no, 1]}}",
            "a: labels[0]: this is no text to YAML; put the name in quotes; "
            "labels[1]: this is no text to YAML; put the name in quotes",
        ),
        ("{id: good, family: sam, displayName: G}", "good: id: two models have it"),
        (f"{{{GOOD}, labels: [{{stuff: true}}]}}", "a: labels[0].name: this field is required"),
        (f"{{{GOOD}, weights: {{}}}}", "a: weights: give exactly one of url, path and hub"),
        (
            f"{{{GOOD}, weights: {{url: 'ftp://a/b', sha256: x}}}}",
            "a: weights.url: give the http or https URL of a file; "
            "weights.sha256: give a SHA-256 as 64 digits of 0 to 9 and a to f",
        ),
        (
            f"{{{GOOD}, weights: {{hub: name}}}}",
            "a: weights.hub: give the name of a model on the hub, as OWNER/NAME",
        ),
        (f"{{{GOOD}, maxBatchSize: 0}}", "a: maxBatchSize: it should be greater than or equal to 1"),
    ],
)
def test_a_fault_is_told_with_its_model_and_its_field(file: Path, entry: str, told: str) -> None:
    file.write_text(f"models:\n  - {{id: good, family: sam, displayName: G}}\n  - {entry}\n")
    with pytest.raises(NotACatalog) as caught:
        load_catalog(file)
    assert str(caught.value) == f"{file}: {told}"


def test_all_models_at_fault_are_told_of(file: Path) -> None:
    file.write_text("models:\n  - {id: a, family: sam}\n  - {id: b, displayName: B}\n")
    with pytest.raises(
        NotACatalog,
        match="a: displayName: this field is required; b: family: this field is required",
    ):
        load_catalog(file)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "the catalog {} can't be read: No such file or directory"),
        (b"\xff", "the catalog {} is no text in UTF-8"),
        (b"models: [\n  {id: a\n", "{} is no YAML: line 3: expected ',' or '}}', but got '<stream end>'"),
        (b"models: \x01", "{} is no YAML: unacceptable character #x0001: special characters are not allowed"),
        (b"models: 7", "{} is no catalog; it has to have a list under 'models'"),
    ],
)
def test_what_is_no_catalog_is_told_in_one_line(file: Path, content: bytes | None, told: str) -> None:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(NotACatalog) as caught:
        load_catalog(file)
    assert str(caught.value) == told.format(file)
