"""The calls about batches, one function each."""

import json
from urllib.parse import quote
from uuid import uuid4

from maskline.batch_resources import NewBatch
from maskline.client.requests import Call

_BATCHES = "/v1/batches"
_PAGE_SIZE = 100
_PACK_S = 300.0  # that a large body may take


def create_batch(batch: NewBatch, idempotency_key: str | None) -> Call:
    """Make a batch. It always has an idempotency key, so it can be sent again."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key or str(uuid4())}
    body = batch.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    return Call(method="POST", path=_BATCHES, headers=headers, content=json.dumps(body).encode())


def get_batch(batch_id: str) -> Call:
    """Look at a batch."""
    return Call(method="GET", path=_batch(batch_id))


def list_batches(token: str) -> Call:
    """A page of batches."""
    params = {"pageSize": str(_PAGE_SIZE)} | ({"pageToken": token} if token else {})
    return Call(method="GET", path=_BATCHES, params=params)


def put_pack(batch_id: str, number: int, content: bytes) -> Call:
    """Upload a pack of images."""
    headers = {"Content-Type": "application/octet-stream"}
    path = f"{_batch(batch_id)}/packs/{number}"
    return Call(method="PUT", path=path, headers=headers, content=content, wait_s=_PACK_S)


def put_part(batch_id: str, number: int, content: bytes) -> Call:
    """Upload a part of the items."""
    headers = {"Content-Type": "application/jsonl"}
    path = f"{_batch(batch_id)}/parts/{number}"
    return Call(method="PUT", path=path, headers=headers, content=content, wait_s=_PACK_S)


def steer_batch(batch_id: str, verb: str) -> Call:
    """``complete``, ``pause``, ``resume``, ``cancel`` or ``retry``."""
    return Call(method="POST", path=f"{_batch(batch_id)}:{verb}")


def delete_batch(batch_id: str) -> Call:
    """Remove a batch."""
    return Call(method="DELETE", path=_batch(batch_id))


def list_shards(batch_id: str, after: int) -> Call:
    """The chunks that have ended after this one."""
    params = {"after": str(after), "pageSize": str(_PAGE_SIZE)}
    return Call(method="GET", path=f"{_batch(batch_id)}/shards", params=params)


def get_summary(batch_id: str) -> Call:
    """What came of a batch."""
    return Call(method="GET", path=f"{_batch(batch_id)}/summary")


def get_lines(batch_id: str, name: str) -> Call:
    """``results``, ``errors``, ``review`` or ``problems``."""
    return Call(method="GET", path=f"{_batch(batch_id)}/{name}", wait_s=_PACK_S)


def list_export_formats() -> Call:
    """Names of the export formats."""
    return Call(method="GET", path="/v1/exportFormats")


def get_export(batch_id: str, export_format: str, *, polygons: bool) -> Call:
    """An export: 200 with the file, or 202 while it is made."""
    params = {"polygons": "true"} if polygons else {}
    path = f"{_batch(batch_id)}/exports/{quote(export_format, safe='')}"
    return Call(method="GET", path=path, params=params, wait_s=_PACK_S)


def _batch(batch_id: str) -> str:
    return f"{_BATCHES}/{quote(batch_id, safe='')}"
