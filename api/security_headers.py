"""What browsers are told about every answer: what it may do, and that it is not to be kept."""

import base64
import hashlib
import re

from flask import Response

_NOTHING = "default-src 'none'; frame-ancestors 'none'"
_OF_A_PAGE = (
    "default-src 'none'; script-src 'self'{scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def guard(response: Response) -> None:
    """Put the headers into an answer; one that says how long it may be kept is not overruled."""
    headers = response.headers
    headers.add("X-Content-Type-Options", "nosniff")
    headers.add("Referrer-Policy", "no-referrer")
    headers.add("Content-Security-Policy", _policy_of(response))
    if "Cache-Control" not in [name for name, _ in headers]:  # quicker than to ask Werkzeug
        headers.add("Cache-Control", "no-store")


def _policy_of(response: Response) -> str:
    """Nothing for what is no page; the one page runs its own scripts, the one within it known by its hash."""
    if not (response.content_type or "").startswith("text/html"):
        return _NOTHING
    response.direct_passthrough = False
    hashes = (
        base64.b64encode(hashlib.sha256(script).digest()).decode()
        for script in _INLINE_SCRIPT.findall(response.get_data())
    )
    return _OF_A_PAGE.format(scripts="".join(f" 'sha256-{one}'" for one in hashes))
