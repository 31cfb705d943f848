"""S3: every kind of call that the service makes, each tried once, and the store's clock."""

import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime

import httpx

from maskline.adapters.s3_artifacts import S3ArtifactStore
from maskline.artifacts import PROBES
from maskline.doctor.finding import Finding
from maskline.errors import ServiceError
from maskline.settings import Settings, SettingsError

_TIMEOUT_S = 10.0
_BODY = b"maskline doctor"
_WORTH_TELLING_S = 60.0
_REFUSED_S = 900.0  # S3 refuses signatures that are further from its own clock


def look(settings: Settings) -> Iterator[Finding]:
    """Findings about the bucket of the settings."""
    try:
        store = S3ArtifactStore.from_settings(settings)
    except SettingsError as error:
        yield Finding.failed("bucket", str(error), "set both keys, or give this machine a role on AWS")
        return
    yield _clock(settings)
    yield from _calls(store, settings)


def _clock(settings: Settings) -> Finding:
    check = "bucket clock"
    url = settings.s3_endpoint or f"https://s3.{settings.s3_region}.amazonaws.com"
    try:
        # Whatever it answers to a stranger, it tells its time.
        answer = httpx.head(url, timeout=_TIMEOUT_S, trust_env=False)
        skew_s = parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        told = f"{url} does not answer: {reason}"
        return Finding.failed(check, told, "start it, or correct MASKLINE_S3_ENDPOINT")
    except (KeyError, ValueError):
        return Finding.warning(check, "the store does not tell its time", "compare the two clocks by hand")
    if abs(skew_s) > _REFUSED_S:
        return Finding.failed(
            check,
            f"it differs from this machine's by {skew_s:+.0f} s; beyond {_REFUSED_S:g} s S3 refuses us",
            "let both machines take their time from NTP",
        )
    if abs(skew_s) > _WORTH_TELLING_S:
        return Finding.warning(
            check,
            f"it differs from this machine's by {skew_s:+.0f} s: URLs end that much sooner or later",
            "let both machines take their time from NTP",
        )
    return Finding.ok(check, "as this machine's")


def _calls(store: S3ArtifactStore, settings: Settings) -> Iterator[Finding]:
    key = f"{PROBES}{secrets.token_hex(8)}"
    step = "reach"
    try:
        store.check()
        step = "put"
        store.put(key, _BODY, "text/plain")
        step = "get"
        _require(store.get(key) == _BODY, "it gave other bytes than it was given")
        step = "list"
        _require(key in store.keys(PROBES), "a new object is not listed")
        yield _presigned(store, key, settings)
        step = "delete"
        store.delete([key])
        _require(key not in store.keys(PROBES), "a deleted object is still listed")
    except (ServiceError, _Wrong) as error:
        with suppress(ServiceError):
            store.delete([key])
        yield Finding.failed(
            "bucket",
            f"{settings.s3_bucket!r} can't be used, it failed to {step}: {error.__cause__ or error}",
            "see that the bucket is there, and that the access key may put, get, list and delete in it",
        )
    else:
        yield Finding.ok("bucket", "put, get, list and delete work")


class _Wrong(Exception):
    """The store answered, and not as S3 does."""


def _require(is_right: bool, wrong: str) -> None:
    if not is_right:
        raise _Wrong(wrong)


def _presigned(store: S3ArtifactStore, key: str, settings: Settings) -> Finding:
    check = "artifact URLs"
    url = store.presign(key, settings.url_expiry)
    if url is None:
        return Finding.ok(check, "the API serves the artifacts itself, under signed URLs")
    origin = settings.s3_public_endpoint or "AWS"
    try:
        answer = httpx.get(url, timeout=_TIMEOUT_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        told = f"{origin} can't be reached: {reason}"
    else:
        if answer.content == _BODY:
            return Finding.ok(check, f"presigned URLs of {origin} open")
        told = f"{origin} answers a presigned URL with status {answer.status_code}"
    return Finding.failed(
        check,
        told,
        "correct MASKLINE_S3_PUBLIC_ENDPOINT: the store's name and port as clients see them, or unset it: "
        "the API then serves the artifacts",
    )
