"""Pages of other origins: those that the settings list may call the API from a browser (CORS)."""

import re
from collections.abc import Collection

from flask import Request, Response

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_EXPOSED = (
    "Location, Preference-Applied, RateLimit, RateLimit-Policy, Retry-After, X-Model-Id, X-Processing-Time, "
    "X-Request-Id"
)
_HEADER_NAMES = re.compile(r"[\w!#$%&'*+.^`|~-]+(?:\s*,\s*[\w!#$%&'*+.^`|~-]+)*", re.ASCII)
_PREFLIGHT_KEPT_S = 600


class Cors:
    """Tells browsers which pages may call.

    A key travels in a header that the page must set, never by itself. So any header may come, and there are
    no credentials in the standard's sense.
    """

    def __init__(self, origins: Collection[str]) -> None:
        """``origins``: as browsers write them; none: no page of another origin may call."""
        self._origins = frozenset(origins)

    def answer_preflight(self, request: Request) -> Response | None:
        """The answer to a browser's question whether it may call; None where it does not ask, or may not."""
        if request.method != "OPTIONS" or not self._is_listed(request):
            return None
        if "Access-Control-Request-Method" not in request.headers:
            return None
        answer = Response(status=204)
        answer.headers["Access-Control-Allow-Methods"] = _METHODS
        answer.headers["Access-Control-Max-Age"] = str(_PREFLIGHT_KEPT_S)
        asked = request.headers.get("Access-Control-Request-Headers", "")
        if _HEADER_NAMES.fullmatch(asked):
            answer.headers["Access-Control-Allow-Headers"] = asked
        return answer

    def allow(self, request: Request, response: Response) -> None:
        """Let the page that called read the answer, if it is of a listed origin."""
        if not self._origins:
            return
        response.headers.add("Vary", "Origin")
        if self._is_listed(request):
            response.headers.add("Access-Control-Allow-Origin", request.headers["Origin"])
            response.headers.add("Access-Control-Expose-Headers", _EXPOSED)

    def _is_listed(self, request: Request) -> bool:
        return bool(self._origins) and request.headers.get("Origin") in self._origins
