"""Lines read as items: what they may say, and what is told of those that can't be read."""

import json
from typing import Any

import pytest

from maskline.batch_items import MAX_ITEM_BYTES, PackedImage
from maskline.batches import BatchRequest, ItemFields, ItemForm, NotedLine
from maskline.jobs import Failure, ImageRef
from maskline.requests import Prompt, SegmentationRequest, Subtask
from worker.bulk.lines import Item, Line, id_of, lines_of, read_item

REQUEST = SegmentationRequest(
    model="grabcut",
    subtask=Subtask.SEMANTIC,
    prompts=(Prompt(label="all", points=((1, 1),)),),
    parameters={"confidenceThreshold": 0.25, "other": 1},
)
BOX = {"label": "cup", "box": [1, 2, 3, 4]}


def read(text: bytes | dict[str, Any], form: ItemForm = ItemForm.ITEM, **batch: Any) -> Item:
    line = text if isinstance(text, bytes) else json.dumps(text).encode()
    return read_item(Line(line, 7), form, BatchRequest(request=REQUEST, **batch), ["imports"])


def failure_of(item: Item) -> Failure:
    assert item.failure is not None
    assert (item.request, item.image) == (None, None)
    return item.failure


def test_lines_have_numbers_and_no_ends() -> None:
    data = b"\xef\xbb\xbfa\r\n\n  \r\n\xef\xbb\xbf\nb c \nd"
    assert list(lines_of(data, 5)) == [(b"a", 5), (b"b c", 9), (b"d", 10)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b'{"id": "a"}', "a"),
        (b'{"id": ""}', "3"),
        (b'{"id": 5}', "3"),
        (b'{"id": "' + b"x" * 1025 + b'"}', "3"),
        (b"{}", "3"),
        (b"[]", "3"),
        (b"no json", "3"),
        (b"\xff", "3"),
    ],
)
def test_the_id_of_a_line(text: bytes, name: str) -> None:
    assert id_of(text, 3) == name


def test_an_item_that_says_little_is_as_the_batch_says() -> None:
    value = {"image": "gs://imports/a/b c.png"}
    item = read(value)
    assert (item.id, item.line, item.instance, item.failure) == ("7", 7, value, None)
    assert item.image == ImageRef(uri="s3://imports/a/b c.png")
    assert item.request == REQUEST


def test_an_item_overrides_what_it_says() -> None:
    item = read(
        {
            "id": "ä",
            "image": "https://example.com/a.png",
            "subtask": "instance",
            "prompts": [BOX],
            "parameters": {"confidenceThreshold": 1},
            "autoOrient": False,
            "metadata": {"any": [1]},
        }
    )
    assert item.id == "ä"
    assert item.image == ImageRef(url="https://example.com/a.png")
    request = item.request
    assert request is not None
    assert (request.model, request.subtask, request.auto_orient) == ("grabcut", Subtask.INSTANCE, False)
    assert request.prompts == (Prompt(label="cup", box=(1, 2, 3, 4)),)
    assert request.parameters == {"confidenceThreshold": 1, "other": 1}


def test_an_item_can_have_no_prompts_where_the_batch_has_some() -> None:
    request = read({"image": "s3://imports/a.png", "prompts": []}).request
    assert request is not None
    assert request.prompts == ()


def test_an_image_can_be_in_a_pack() -> None:
    item = read({"image": {"pack": 2, "offset": 3, "length": 4}})
    assert item.image == PackedImage(pack=2, offset=3, length=4)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (b"no json", "malformed_request", "can't be read as JSON"),
        (b'{"image": "s3://imports/a.png"', "malformed_request", "EOF"),
        (b'{"image": "\xff"}', "malformed_request", "UTF-8"),
        (b'{"image": "s3://imports/a.png", "metadata": {"x": NaN}}', "malformed_request", "JSON"),
        (b'{"image": "s3://imports/a.png", "metadata": {"x": 1e400}}', "malformed_request", "too large"),
        (b'{"metadata": ' + b'{"x":' * 40 + b"1" + b"}" * 41, "malformed_request", "32 arrays and objects"),
        (b"[" * 5000 + b"]" * 5000, "malformed_request", "recursion limit"),
        (b'{"id": ' + b"9" * 5000 + b"}", "malformed_request", "out of range"),
        (b'"' + b"x" * MAX_ITEM_BYTES + b'"', "malformed_request", "longer than"),
        (b"[]", "invalid_request", "/: give fields with their values"),
        (b"{}", "invalid_request", "/image: "),
        (b'{"image": "/etc/passwd"}', "invalid_request", "/image: give s3://BUCKET/KEY"),
        (b'{"image": 5}', "invalid_request", "/image: give s3://BUCKET/KEY"),
        (b'{"image": {"pack": 0, "offset": -1, "length": 0}}', "invalid_request", "/image/pack: it"),
        (b'{"image": {"pack": 1, "offset": 1e30, "length": 1}}', "invalid_request", "/image/offset"),
        (
            b'{"image": {"pack": 1, "offset": 9999999999999, "length": 1}}',
            "invalid_request",
            "/image/offset",
        ),
        (b'{"image": "s3://imports/a.png", "label": "x"}', "invalid_request", "/label: there is no such"),
        (b'{"image": "s3://imports/a.png", "id": ""}', "invalid_request", "/id"),
        (b'{"image": "s3://imports/a.png", "id": "a\\nb"}', "invalid_request", "control characters"),
        (b'{"image": "s3://imports/a.png", "prompts": [{"label": "x"}]}', "invalid_request", "/prompts/0"),
        (b'{"image": "s3://imports/a.png", "model": "x"}', "invalid_request", "/model"),
        (b'{"image": "s3://maskline/a.png"}', "image_unreachable", "'maskline' is not open for import"),
        (b'{"image": "gs://other/a.png"}', "image_unreachable", "these are: imports"),
    ],
)
def test_a_line_that_says_no_item_fails_alone(text: bytes, code: str, words: str) -> None:
    item = read(text)
    failure = failure_of(item)
    assert (failure.code, words in failure.message) == (code, True), failure.message
    assert item.line == item.told_line == 7
    if code == "malformed_request":
        assert item.instance == text[:256].decode(errors="replace")


def test_an_item_that_is_wrong_keeps_its_id() -> None:
    value = {"id": "a", "image": "s3://imports/a.png", "label": 1}
    item = read(value)
    assert (item.id, item.instance) == ("a", value)
    assert failure_of(item).code == "invalid_request"


# -- instances of Vertex AI


def test_an_instance_is_its_image_s_address() -> None:
    item = read({"content": "gs://imports/a.png", "mimeType": "image/png"}, ItemForm.JSONL)
    assert (item.id, item.image, item.request) == ("7", ImageRef(uri="s3://imports/a.png"), REQUEST)
    listed = read(b"s3://imports/b c.png", ItemForm.FILE_LIST)
    assert listed.image == ImageRef(uri="s3://imports/b c.png")
    assert listed.instance == {"content": "s3://imports/b c.png"}


@pytest.mark.parametrize(
    ("text", "form", "words"),
    [
        (b"no json", ItemForm.JSONL, "as jsonl in UTF-8"),
        (b"\xff", ItemForm.FILE_LIST, "as file-list in UTF-8"),
        (b"[]", ItemForm.JSONL, "give an object"),
        (b'{"content": "gs://other/1.png"}', ItemForm.JSONL, "'other' is not open"),
        (b'{"content": "aGk="}', ItemForm.JSONL, "gs://BUCKET/KEY"),
        (b'{"content": "gs://imports"}', ItemForm.JSONL, "names no object"),
        (b'{"content": 1}', ItemForm.JSONL, "gs://BUCKET/KEY"),
        (b'{"content": "gs://imports/1.png", "x": 1}', ItemForm.JSONL, "/x: there is no such field"),
        (b"https://example.com/1.png", ItemForm.FILE_LIST, "gs://BUCKET/KEY"),
    ],
)
def test_an_instance_that_says_no_image_fails_alone(text: bytes, form: ItemForm, words: str) -> None:
    assert words in failure_of(read(text, form)).message


def test_only_the_fields_that_count_are_looked_at() -> None:
    value = {"content": "gs://imports/a.png", "id": 1, "note": "n", "x": 2}
    told = (
        (ItemFields(key_field="id", excluded=("note", "x")), True),
        (ItemFields(included=("content",)), True),
        (ItemFields(included=("content", "x")), False),
        (ItemFields(key_field="id", excluded=("note",)), False),
    )
    for fields, is_right in told:
        assert (read(value, ItemForm.JSONL, fields=fields).failure is None) == is_right


# -- lines that the service wrote


def test_a_noted_line_is_the_line_that_it_notes() -> None:
    inner = {"id": "a", "image": "s3://imports/a.png", "prompts": [BOX]}
    noted = NotedLine(line=3, form=ItemForm.ITEM, text=json.dumps(inner))
    item = read(noted.to_json().encode(), ItemForm.NOTED)
    expected = read_item(
        Line(json.dumps(inner).encode(), 3), ItemForm.ITEM, BatchRequest(request=REQUEST), ["imports"]
    )
    assert item == expected
    assert (item.id, item.line, item.form) == ("a", 3, ItemForm.ITEM)


@pytest.mark.parametrize(
    ("instance", "name"), [({"id": "a", "x": 1}, "a"), ("no json", "3"), ({"id": 4}, "3")]
)
def test_a_noted_failure_stands(instance: Any, name: str) -> None:
    why = Failure(code="repeated_item", message="line 1 has the id too")
    noted = NotedLine(line=3, form=ItemForm.ITEM, text=json.dumps(instance), failure=why)
    item = read(noted.to_json().encode(), ItemForm.NOTED)
    assert (item.id, item.line, item.instance, item.failure) == (name, 3, instance, why)


def test_an_item_can_be_told_of_by_another_number() -> None:
    item = read(b'{"image": "s3://imports/1.png", "line": 40}')
    assert (item.line, item.told_line, item.id) == (7, 40, "7")
    assert read(b'{"line": 40}').told_line == 40
    assert read(b'{"line": true}').told_line == read(b'{"line": -1}').told_line == 7
