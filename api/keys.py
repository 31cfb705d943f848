"""Routes by which administrators make and revoke the API keys of all tenants."""

from datetime import UTC, datetime

from flask import Blueprint, Response, request

from api.body import read_body, read_json
from api.openapi import operation
from api.services import Services
from maskline import key_records as records
from maskline.errors import KeyNotFound
from maskline.keys import ApiKey, Scope, make_key
from maskline.resources import CreatedKey, KeyPage, KeyResource, NewKey

_JSON = "application/json"
_MAX_BODY_BYTES = 1 << 16


def make_blueprint(services: Services) -> Blueprint:
    """``/v1/keys``."""
    blueprint = Blueprint("keys", __name__, url_prefix="/v1/keys")

    @blueprint.post("")
    @operation(
        "Make an API key; its secret is shown this once",
        tag="keys",
        bodies={_JSON: NewKey},
        answers={201: {_JSON: CreatedKey}},
        problems=(400, 413, 422),
        scope=Scope.ADMIN,
    )
    def create_key() -> Response:
        asked = read_json(read_body(request, _MAX_BODY_BYTES), NewKey)
        record, key = make_key(
            asked.name, tenant=asked.tenant, scopes=asked.scopes, expires_in_s=asked.expires_in
        )
        records.keep_key(record, services.artifacts, services.keys)
        created = CreatedKey(**dict(_resource(record)), key=key)
        return Response(created.to_json(), 201, mimetype=_JSON)

    @blueprint.get("")
    @operation("List the API keys", tag="keys", answers={200: {_JSON: KeyPage}}, scope=Scope.ADMIN)
    def list_keys() -> Response:
        page = KeyPage(keys=tuple(_resource(record) for record in services.keys.all()))
        return Response(page.to_json(), mimetype=_JSON)

    @blueprint.delete("/<key_id>")
    @operation("Revoke an API key", tag="keys", answers={204: {}}, problems=(404,), scope=Scope.ADMIN)
    def revoke_key(key_id: str) -> Response:
        if not records.revoke_key(key_id, services.artifacts, services.keys):
            raise KeyNotFound(f"there is no key {key_id!r}")
        return Response(status=204)

    return blueprint


def _resource(record: ApiKey) -> KeyResource:
    return KeyResource(
        id=record.id,
        name=record.name,
        tenant=record.tenant,
        scopes=record.scopes,
        created_at=datetime.fromtimestamp(record.created_s, UTC),
        expires_at=datetime.fromtimestamp(record.expires_s, UTC) if record.expires_s else None,
    )
