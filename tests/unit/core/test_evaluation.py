"""Masks held against each other: scores against scikit-learn's, and what can't be compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import accuracy_score, jaccard_score

from maskline.evaluation import (
    Evaluator,
    NoNames,
    NotComparable,
    count_pairs,
    mask_names,
    read_mask,
    read_names,
)


def save(path: Path, pixels: Any, mode: str = "P") -> Path:
    """A mask as tools write them: palette, or grayscale of 8 or 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels, np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        image.putpalette([number * 7 % 256 for number in range(768)])
    image.save(path)
    return path


@pytest.mark.parametrize(("mode", "largest"), [("P", 6), ("L", 255), ("I;16", 65535)])
@pytest.mark.parametrize("ignored", [(), (0,), (3, 255)])
@given(st.integers(0, 2**32 - 1))
def test_scores_are_those_of_scikit_learn(
    tmp_path_factory: pytest.TempPathFactory, mode: str, largest: int, ignored: tuple[int, ...], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("masks")
    random = np.random.default_rng(seed)
    ids = random.integers(0, largest, random.integers(1, 9), endpoint=True)
    evaluator = Evaluator(ignored)
    trues, predictions = [], []
    for number in range(3):
        shape = tuple(random.integers(1, 20, 2))
        true, predicted = random.choice(ids, shape), random.choice(ids, shape)
        evaluator.compare(
            save(folder / f"p{number}.png", predicted, mode), save(folder / f"t{number}.png", true, mode)
        )
        trues.append(true.ravel())
        predictions.append(predicted.ravel())
    true, predicted = np.concatenate(trues), np.concatenate(predictions)
    counts = ~np.isin(true, ignored)
    true, predicted = true[counts], predicted[counts]
    found = evaluator.evaluation()
    assert found.pixels == true.size
    if not true.size:
        assert (found.pixel_accuracy, found.mean_iou, found.classes) == (None, None, ())
        return
    labels = sorted({*true.tolist(), *predicted.tolist()} - {*ignored})
    assert [one.id for one in found.classes] == labels
    wanted = jaccard_score(true, predicted, labels=labels, average=None, zero_division=0)
    assert np.allclose([one.iou or 0 for one in found.classes], wanted)
    assert found.mean_iou == pytest.approx(wanted.mean())
    assert found.pixel_accuracy == pytest.approx(accuracy_score(true, predicted))


def test_the_pairs_of_a_large_mask_of_many_ids() -> None:
    true = np.arange(300 * 400, dtype=np.uint32).reshape(300, 400) % 65536
    predicted = true[::-1]
    found = count_pairs(*(Image.fromarray(one.astype(np.uint16)) for one in (true, predicted)))
    keys, counts = np.unique((true << 16 | predicted).astype(np.uint32), return_counts=True)
    assert len(found) > 65536
    assert found == {
        (key >> 16, key & 0xFFFF): n for key, n in zip(keys.tolist(), counts.tolist(), strict=True)
    }


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_ids_of_few_bits(tmp_path: Path, bits: int) -> None:
    import cv2

    ids = np.arange(1 << bits, dtype=np.uint8).reshape(1, -1)
    palette = Image.fromarray(ids)
    palette.putpalette([200, 100, 0] * (1 << bits))
    palette.save(tmp_path / "palette.png", bits=bits)
    grayscale = _grayscale_of_few_bits(ids[0].tolist(), bits)
    (tmp_path / "grayscale.png").write_bytes(grayscale)
    spread = cv2.imdecode(np.frombuffer(grayscale, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert spread is not None
    assert spread[0, -1] == 255  # it is what it should be: white where the id is the largest
    for name in ("palette.png", "grayscale.png"):
        assert read_mask(tmp_path / name).tobytes() == ids.tobytes()


def _grayscale_of_few_bits(ids: list[int], bits: int) -> bytes:
    """A PNG that Pillow itself does not write."""
    import zlib
    from struct import pack

    def chunk(kind: bytes, body: bytes) -> bytes:
        return pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body))

    text = "".join(f"{id:0{bits}b}" for id in ids)
    row = int(text.ljust(-len(text) % 8 + len(text), "0"), 2).to_bytes((len(text) + 7) // 8)
    header = pack(">IIBBBBB", len(ids), 1, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_class_in_neither_is_no_part_of_the_mean(tmp_path: Path) -> None:
    mask = save(tmp_path / "a.png", [[0, 1], [1, 1]])
    evaluator = Evaluator()
    evaluator.compare(mask, mask)
    found = evaluator.evaluation({1: "cup", 2: "spoon"})
    assert found.mean_iou == 1
    assert [(one.id, one.name, one.iou) for one in found.classes] == [
        (0, None, 1),
        (1, "cup", 1),
        (2, "spoon", None),
    ]


def test_what_was_predicted_to_be_ignored_is_wrong(tmp_path: Path) -> None:
    evaluator = Evaluator([255])
    evaluator.compare(save(tmp_path / "p.png", [[255, 1, 7]]), save(tmp_path / "t.png", [[1, 1, 255]]))
    found = evaluator.evaluation()
    assert (found.mean_iou, found.pixel_accuracy, found.pixels) == (0.5, 0.5, 2)
    assert [one.id for one in found.classes] == [1]


def test_what_can_not_be_compared(tmp_path: Path) -> None:
    mask = save(tmp_path / "a.png", [[0, 1]])
    other_size = save(tmp_path / "b.png", [[0, 1, 1]])
    text = tmp_path / "text.png"
    text.write_text("no mask")
    cut = tmp_path / "cut.png"
    cut.write_bytes(mask.read_bytes()[:-30])
    color = tmp_path / "color.png"
    Image.new("RGB", (2, 1)).save(color)
    evaluator = Evaluator()
    for other, told in {
        other_size: "the predicted mask has 3 x 1 pixels, the true one 2 x 1",
        text: "is no PNG that can be read",
        cut: "is no PNG that can be read",
        color: "has 3 channels",
        tmp_path / "none.png": "is missing",
    }.items():
        with pytest.raises(NotComparable, match=told):
            evaluator.compare(other, mask)
    found = evaluator.evaluation()
    assert (found.images, found.faults, found.classes) == (0, 5, ())


def test_masks_are_found_by_name_in_folders_below(tmp_path: Path) -> None:
    for name in ("gt/b/1.png", "gt/2.PNG", "gt/.hidden.png", "gt/notes.txt", "pred/2.PNG", "pred/c/3.png"):
        save(tmp_path / name, [[1]]) if name.endswith("png") else save(
            tmp_path / (name + ".png"), [[1]]
        ).rename(tmp_path / name)
    assert list(mask_names(tmp_path / "pred", tmp_path / "gt")) == ["2.PNG", "b/1.png", "c/3.png"]


def test_names(tmp_path: Path) -> None:
    text, specs = tmp_path / "labels.txt", tmp_path / "labels.json"
    text.write_text("\ufeffbackground\n\ntea spoon \n", "utf-8")
    specs.write_text(json.dumps([{"id": 3, "displayName": "cup", "color": "#ff0000"}]))
    assert read_names(text) == {0: "background", 2: "tea spoon"}
    assert read_names(specs) == {3: "cup"}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", b"{}", "valid array"),
        ("a.json", b'[{"id": 1}]', "displayName: this field is required"),
        ("a.json", b"[", "invalid JSON"),
        ("a.txt", b"\xff\xfe", "no text in UTF-8"),
    ],
)
def test_wrong_names(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NoNames, match=told):
        read_names(tmp_path / name)
