"""Calls to addresses that clients name: image URLs and webhooks.

Each call has a connection of its own: one that is kept would be shared by all names behind an address.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

import httpcore
import httpx

from maskline.adapters.guarded_network import Guard, GuardedNetwork, Refused
from maskline.errors import ImageTooLarge, ImageUnreachable

_CONNECT_S = 5.0
_LASTING_S = 30.0  # of one call, from the name to the last byte
_MAX_REDIRECTS = 3
_PORTS = 1 << 16
_SCHEMES = ("http", "https")
_USER_AGENT = "maskline"
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


class CallFailed(Exception):
    """The address may not be called, or can't be reached; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a POST was answered with. ``retry_after``: the header of that name."""

    status: int
    retry_after: str | None


class OutgoingClient:
    """An HTTP client for addresses that clients name."""

    def __init__(self, allow: Iterable[str] = (), *, lasting_s: float = _LASTING_S) -> None:
        """``allow``: host names, addresses or networks that may be called although they are not public;
        ``lasting_s``: the longest that one call may take."""
        self._guard = Guard(allow)
        self._lasting_s = lasting_s
        self._ssl_context = httpx.create_ssl_context(trust_env=False)

    def get_image(self, url: str, max_bytes: int, *, authorization: str | None = None) -> bytes:
        """The bytes behind a URL.

        ``authorization``: the header of that name, for the URL's own origin; a redirect to another does not
        get it.

        Raises:
            ImageUnreachable: the URL may not be called, can't be reached, or does not answer with 200.
            ImageTooLarge: there are more than ``max_bytes``.
        """
        try:
            target = first = _parse(url)
            for _ in range(_MAX_REDIRECTS + 1):
                headers = {}
                if authorization is not None and _origin(target) == _origin(first):
                    headers["Authorization"] = authorization
                with self._call("GET", target, headers=headers) as response:
                    location = _header(response, b"location")
                    if response.status in _REDIRECTS and location is not None:
                        target = _join(target, location)
                        continue
                    if response.status != HTTPStatus.OK:
                        raise ImageUnreachable(f"{url} answered with status {response.status}")
                    return _read(response, max_bytes)
        except CallFailed as error:
            raise ImageUnreachable(f"{url} can't be fetched: {error}") from error
        raise ImageUnreachable(f"{url} redirects more than {_MAX_REDIRECTS} times")

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        """The answer to a POST; redirects are not followed.

        Raises:
            CallFailed: the URL may not be called, or can't be reached.
        """
        with self._call("POST", _parse(url), body, headers) as response:
            return Answer(status=response.status, retry_after=_header(response, b"retry-after"))

    @contextmanager
    def _call(
        self, method: str, url: httpx.URL, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Iterator[httpcore.Response]:
        network = GuardedNetwork(self._guard, self._lasting_s)
        timeouts = {"connect": _CONNECT_S, "read": self._lasting_s, "write": self._lasting_s}
        sent = {"Host": url.netloc.decode("ascii"), "User-Agent": _USER_AGENT, **(headers or {})}
        if body is not None:
            sent["Content-Length"] = str(len(body))
        try:
            with (
                httpcore.ConnectionPool(ssl_context=self._ssl_context, network_backend=network) as pool,
                pool.stream(
                    method,
                    httpcore.URL(
                        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                    ),
                    headers=list(sent.items()),
                    content=body,
                    extensions={"timeout": timeouts},
                ) as response,
            ):
                yield response
        except Refused as error:
            raise CallFailed(str(error)) from error
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise CallFailed(str(error) or type(error).__name__) from error


def _join(base: httpx.URL, location: str) -> httpx.URL:
    """Where a redirect leads, of a form that is called.

    Raises:
        CallFailed: it leads nowhere.
    """
    try:
        return _parse(str(base.join(location)))
    except httpx.InvalidURL as error:
        raise CallFailed(f"it redirects to what is no URL: {error}") from error


def _parse(url: str) -> httpx.URL:
    """The URL, of a form that is called.

    Raises:
        CallFailed: it is none.
    """
    try:
        parsed = httpx.URL(url)
        is_whole = bool(parsed.host)
    except (httpx.InvalidURL, UnicodeError) as error:  # a host name that IDNA does not have is the latter
        raise CallFailed(f"this is no URL: {error}") from error
    if parsed.scheme not in _SCHEMES or not is_whole:
        raise CallFailed(f"{url!r} is not called; give an http or https URL with a host")
    if parsed.port is not None and not 0 < parsed.port < _PORTS:
        raise CallFailed(f"there is no port {parsed.port}")
    if parsed.userinfo:
        raise CallFailed("a URL with a user name or password in it is not called")
    return parsed


def _origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port


def _header(response: httpcore.Response, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), None)


def _read(response: httpcore.Response, max_bytes: int) -> bytes:
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > max_bytes:
            raise ImageTooLarge(f"the image is larger than the {max_bytes} bytes that are taken")
    return bytes(body)
