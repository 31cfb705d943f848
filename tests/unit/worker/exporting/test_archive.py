"""The archive: a ZIP file that others read, written as a stream."""

import json
from contextlib import closing
from io import BytesIO, RawIOBase
from typing import BinaryIO, cast
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from hypothesis import given
from hypothesis import strategies as st

from worker.exporting.archive import Archive
from worker.exporting.spool import JsonList


class Pipe(RawIOBase):
    """Takes what is written, and can't go back."""

    def __init__(self) -> None:
        self.taken = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        taken = memoryview(cast(bytes, data)).tobytes()
        self.taken += taken
        return len(taken)


def write(file: BinaryIO) -> None:
    with Archive(file) as archive:
        elements = archive.json_list()
        for i in range(1000):
            elements.append({"number": i, "name": "ß"})
        archive.add("a/ß.png", b"picture")
        archive.add_text("labels.txt", "cup\n" * 100)
        archive.add_json("all.json", {"info": {"x": 1}, "none": archive.json_list(), "elements": elements})


def check(content: bytes) -> None:
    with ZipFile(BytesIO(content)) as read:
        assert read.testzip() is None
        assert read.namelist() == ["a/ß.png", "labels.txt", "all.json"]
        assert [one.compress_type for one in read.infolist()] == [ZIP_STORED, ZIP_DEFLATED, ZIP_DEFLATED]
        assert read.read("a/ß.png") == b"picture"
        assert read.read("labels.txt") == b"cup\n" * 100
        document = json.loads(read.read("all.json"))
    assert document["info"] == {"x": 1}
    assert document["none"] == []
    assert document["elements"] == [{"number": i, "name": "ß"} for i in range(1000)]


def test_what_was_written_is_read() -> None:
    file = BytesIO()
    write(file)
    check(file.getvalue())


def test_a_file_that_can_not_seek_will_do() -> None:
    pipe = Pipe()
    write(cast(BinaryIO, pipe))
    check(bytes(pipe.taken))


def test_the_same_content_gives_the_same_bytes() -> None:
    one, other = BytesIO(), BytesIO()
    write(one)
    write(other)
    assert one.getvalue() == other.getvalue()


@given(st.lists(st.recursive(st.none() | st.integers() | st.text(), st.lists)))
def test_a_list_is_json(elements: list[object]) -> None:
    with closing(JsonList()) as spooled:
        for element in elements:
            spooled.append(element)
        assert json.loads(b"".join(spooled.chunks())) == elements
