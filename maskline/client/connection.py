"""Where the service is, and the key to it."""

import os
from typing import Any

import httpx

from maskline.client.errors import ConnectionFailed

DEFAULT_URL = "http://127.0.0.1:8080"
POLL_S = 15.0  # of one long poll while a client waits


def settings_of(base_url: str | None, api_key: str | None) -> dict[str, Any]:
    """What an httpx client is made with; what is left out comes from the environment.

    Raises:
        ConnectionFailed: nothing can be at such an URL.
    """
    url = base_url or os.environ.get("MASKLINE_URL") or DEFAULT_URL
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConnectionFailed(f"{url!r} is no URL: {error}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ConnectionFailed(f"{url!r} is no URL of a service; it begins with http:// or https://")
    key = api_key or os.environ.get("MASKLINE_API_KEY")
    return {
        "base_url": url.rstrip("/"),
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "follow_redirects": True,
    }
