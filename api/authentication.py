"""Who is calling: keys come as ``Authorization: Bearer KEY``, or in the header ``X-API-Key``.

Google's clients call that ``X-Goog-Api-Key``.
"""

import hmac
import time
from dataclasses import dataclass
from typing import Protocol

from flask import Request

from maskline.errors import Forbidden, Unauthenticated
from maskline.keys import DEFAULT_TENANT, Scope, hash_secret, split_key
from maskline.ports import KeyStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who sent a request."""

    tenant: str
    scopes: frozenset[Scope]

    def require(self, scope: Scope) -> None:
        """Return if the caller may do this.

        Raises:
            Forbidden: the key lacks the scope.
        """
        if scope not in self.scopes:
            has = ", ".join(sorted(self.scopes))
            raise Forbidden(f"this needs a key with the scope '{scope}'; this one has {has}")


_ADMINISTRATOR = Caller(tenant=DEFAULT_TENANT, scopes=frozenset(Scope))


class KeyBearer(Protocol):
    """Where else a protocol's clients put their key: what a file of ``api/protocols`` may have too."""

    def key_in(self, request: Request, max_image_bytes: int) -> str | None:
        """The key of a request of this protocol's; None where it is another's, or has none.

        ``max_image_bytes``: of an image, which bounds the body where the key is in it.
        """
        ...


_KEY_HEADERS = ("X-API-Key", "X-Goog-Api-Key")


def key_of(request: Request) -> str | None:
    """The key that a request carries, if any."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower().rstrip(":") == "bearer" and token:  # Hugging Face's description has it with a colon
        return token.strip()
    return next((key for header in _KEY_HEADERS if (key := request.headers.get(header))), None)


def authenticate(key: str | None, admin_key: str | None, store: KeyStore) -> Caller:
    """Who holds this key. Without an administrator's key in the settings everybody is the administrator.

    Raises:
        Unauthenticated: the key is missing, unknown or expired.
        JobStoreUnavailable: the key store does not answer.
    """
    if admin_key is None:
        return _ADMINISTRATOR
    if not key:
        raise Unauthenticated("send an API key, as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
    if hmac.compare_digest(hash_secret(key), hash_secret(admin_key)):
        return _ADMINISTRATOR
    key_id, secret = split_key(key)
    record = store.get(key_id) if key_id else None
    if (
        record is None
        or not hmac.compare_digest(record.secret_sha256, hash_secret(secret))
        or (record.expires_s is not None and record.expires_s <= time.time())
    ):
        raise Unauthenticated("the API key is unknown, revoked or expired; ask the operator for a new one")
    return Caller(tenant=record.tenant, scopes=frozenset(record.scopes))
