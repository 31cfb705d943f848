"""Presigned S3 requests: AWS Signature Version 4 in the query, with an unsigned payload.

botocore's signer gives the same signatures (a test holds this against it) at several times the cost; a small
object is stored in about the time that its signature took there.
"""

import hashlib
import hmac
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"


def presigned_url(
    method: str,
    url: str,
    *,
    access_key: str,
    secret_key: str,
    session_token: str | None,
    region: str,
    expires_s: int,
    now: datetime | None = None,
) -> str:
    """``url`` (without a query, its path quoted) with a signature that lasts ``expires_s`` seconds."""
    host, slash, path = url.partition("//")[2].partition("/")
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    credential = _quoted(f"{access_key}/{scope}")
    query = (
        f"X-Amz-Algorithm={_ALGORITHM}&X-Amz-Credential={credential}"
        f"&X-Amz-Date={stamp}&X-Amz-Expires={expires_s}"
    )
    if session_token is not None:
        query += f"&X-Amz-Security-Token={_quoted(session_token)}"
    query += "&X-Amz-SignedHeaders=host"
    canonical = f"{method}\n{slash}{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = _signing_key(secret_key, stamp[:8], region)
    # Unlike hmac.digest this keeps the interpreter's lock, which under load takes longer to get back.
    signature = hmac.new(key, f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hexdigest()
    return f"{url}?{query}&X-Amz-Signature={signature}"


@lru_cache(maxsize=8)
def _quoted(text: str) -> str:
    return quote(text, safe="")


@lru_cache(maxsize=8)
def _signing_key(secret_key: str, date: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
