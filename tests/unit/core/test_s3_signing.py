"""Our presigned URLs against botocore's."""

from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import parse_qs, quote, urlsplit

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from maskline.adapters.s3_signing import presigned_url

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@given(
    st.sampled_from(["GET", "PUT", "HEAD"]),
    st.sampled_from(["http://127.0.0.1:9000", "https://bucket.s3.eu-west-1.amazonaws.com"]),
    WORDS.filter(lambda key: not set(key.split("/")) & {".", "..", ""}),
    st.text("abcdef0123456789+/=", min_size=1, max_size=40),
    st.none() | st.text("abcdef+/=", min_size=1, max_size=40),
    st.integers(1, 604800),
)
def test_the_signature_is_that_of_botocore(
    method: str, host: str, key: str, secret: str, token: str | None, expires_s: int
) -> None:
    url = f"{host}/{quote(key, safe='/-_.~')}"
    ours = presigned_url(
        method,
        url,
        access_key="ACCESS/KEY",
        secret_key=secret,
        session_token=token,
        region="eu-west-1",
        expires_s=expires_s,
        now=NOW,
    )
    request = AWSRequest(method=method, url=url)
    signer = S3SigV4QueryAuth(Credentials("ACCESS/KEY", secret, token), "s3", "eu-west-1", expires_s)
    with patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        signer.add_auth(request)
    assert parse_qs(urlsplit(ours).query) == parse_qs(urlsplit(str(request.url)).query)
    assert ours.partition("?")[0] == url
