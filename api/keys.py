"""Routes by which the administrator makes and revokes API keys."""

from datetime import UTC, datetime

from flask import Blueprint, Response, g, request

from api.body import read_json
from api.openapi import operation
from api.services import Services
from maskline.errors import KeyNotFound
from maskline.keys import ApiKey, make_key
from maskline.resources import CreatedKey, KeyPage, KeyResource, NewKey

_JSON = "application/json"
_MAX_BODY_BYTES = 1 << 16


def make_blueprint(services: Services) -> Blueprint:
    """``/v1/keys``."""
    blueprint = Blueprint("keys", __name__, url_prefix="/v1/keys")

    @blueprint.before_request
    def admin_only() -> None:
        g.caller.require_admin()

    @blueprint.post("")
    @operation(
        "Make an API key; its secret is shown this once",
        tag="keys",
        bodies={_JSON: NewKey},
        answers={201: {_JSON: CreatedKey}},
        problems=(400, 403, 413, 415, 422),
    )
    def create_key() -> Response:
        request.max_content_length = _MAX_BODY_BYTES
        asked = read_json(request.get_data(), NewKey)
        record, key = make_key(asked.name, asked.expires_in)
        services.keys.add(record)
        created = CreatedKey(**dict(_resource(record)), key=key)
        return Response(created.to_json(), 201, mimetype=_JSON)

    @blueprint.get("")
    @operation("List the API keys", tag="keys", answers={200: {_JSON: KeyPage}}, problems=(403,))
    def list_keys() -> Response:
        page = KeyPage(keys=tuple(_resource(record) for record in services.keys.all()))
        return Response(page.to_json(), mimetype=_JSON)

    @blueprint.delete("/<key_id>")
    @operation("Revoke an API key", tag="keys", answers={204: {}}, problems=(403, 404))
    def revoke_key(key_id: str) -> Response:
        if not services.keys.remove(key_id):
            raise KeyNotFound(f"there is no key {key_id!r}")
        return Response(status=204)

    return blueprint


def _resource(record: ApiKey) -> KeyResource:
    return KeyResource(
        id=record.id,
        name=record.name,
        created_at=datetime.fromtimestamp(record.created_s, UTC),
        expires_at=datetime.fromtimestamp(record.expires_s, UTC) if record.expires_s else None,
    )
