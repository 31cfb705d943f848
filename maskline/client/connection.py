"""Where the service is, and the key to it."""

import os
from typing import Any

DEFAULT_URL = "http://127.0.0.1:8080"
POLL_S = 15.0  # of one long poll while a client waits


def settings_of(base_url: str | None, api_key: str | None) -> dict[str, Any]:
    """What an httpx client is made with; what is left out comes from the environment."""
    url = base_url or os.environ.get("MASKLINE_URL") or DEFAULT_URL
    key = api_key or os.environ.get("MASKLINE_API_KEY")
    return {
        "base_url": url.rstrip("/"),
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "follow_redirects": True,
    }
