"""API keys: ``mk_{id}_{secret}``; the service keeps a hash of the secret alone.

A key's secret has 192 bits of chance, so one round of SHA-256 is enough to keep it.
"""

import hashlib
import secrets
import time
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from maskline.plain_words import Right
from maskline.wire import WireModel

DEFAULT_TENANT = "default"
_PREFIX = "mk"

Tenant = Annotated[
    str,
    Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$"),
    Right("give 1 to 63 of a-z, 0-9, - and _, with a letter or digit first"),
]
"""Name of a tenant. It is a part of keys in Redis, whose parts are separated by colons."""


class Scope(StrEnum):
    """What a key may do; none includes another."""

    SUBMIT = "submit"  #: make, cancel and delete jobs and batches
    READ = "read"  #: look at jobs, results and models
    ADMIN = "admin"  #: make, list and revoke the keys of all tenants


DEFAULT_SCOPES = (Scope.SUBMIT, Scope.READ)


class ApiKey(WireModel):
    """A key's record."""

    id: str
    """Names the key; the middle part of it."""
    name: str
    """For people."""
    tenant: Tenant = DEFAULT_TENANT
    """Whose jobs it reaches."""
    scopes: tuple[Scope, ...] = DEFAULT_SCOPES
    """What it may do."""
    secret_sha256: str
    """Of the last part of the key, in hex."""
    created_s: float
    """Seconds since 1970."""
    expires_s: float | None = None
    """Seconds since 1970."""


def make_key(
    name: str,
    *,
    tenant: str = DEFAULT_TENANT,
    scopes: tuple[Scope, ...] = DEFAULT_SCOPES,
    expires_in_s: float | None = None,
) -> tuple[ApiKey, str]:
    """A new key's record, and the key itself."""
    key_id, secret = secrets.token_hex(8), secrets.token_hex(24)
    now = time.time()
    record = ApiKey(
        id=key_id,
        name=name,
        tenant=tenant,
        scopes=scopes,
        secret_sha256=hash_secret(secret),
        created_s=now,
        expires_s=now + expires_in_s if expires_in_s is not None else None,
    )
    return record, f"{_PREFIX}_{key_id}_{secret}"


def split_key(key: str) -> tuple[str, str]:
    """The id and the secret of a key; both empty if it is none of ours."""
    prefix, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    return (key_id, secret) if prefix == _PREFIX else ("", "")


def hash_secret(secret: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()
