"""Calls to addresses that clients name (image URLs, webhooks): public hosts only.

The name is resolved once, every address is checked, and the connection goes to the address that was checked,
so that a name which changes its address in between gains nothing. Each redirect is checked anew.
"""

import ipaddress
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import httpx

from maskline.errors import ImageTooLarge, ImageUnreachable

_TIMEOUT = httpx.Timeout(15.0, connect=5.0)
_MAX_REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Public by the registries, yet a way inside: cloud metadata, and IPv6 forms that carry an IPv4 address.
_REFUSED: Sequence[Network] = [
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",
        "192.88.99.0/24",
        "::/96",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
        "fec0::/10",
    )
]


class Refused(Exception):
    """The address may not be called; the message says why."""


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet, and no way around that."""
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _REFUSED if network.version == address.version)
    )


class OutgoingClient:
    """An HTTP client for addresses that clients name."""

    def __init__(self, allow: Iterable[str] = ()) -> None:
        """``allow``: host names, addresses or networks that may be called although they are not public."""
        self._hosts: set[str] = set()
        self._networks: list[Network] = []
        for entry in allow:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                self._hosts.add(entry.lower())
        self._client = httpx.Client(timeout=_TIMEOUT, follow_redirects=False, trust_env=False)

    def get_image(self, url: str, max_bytes: int) -> bytes:
        """The bytes behind a URL.

        Raises:
            ImageUnreachable: the URL may not be called, can't be reached, or does not answer with 200.
            ImageTooLarge: there are more than ``max_bytes``.
        """
        target = httpx.URL(url)
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                with self._call("GET", target) as response:
                    if response.is_redirect:
                        target = target.join(response.headers["location"])
                        continue
                    if response.status_code != httpx.codes.OK:
                        raise ImageUnreachable(f"{url} answered with status {response.status_code}")
                    return _read(response, max_bytes)
        except (httpx.HTTPError, httpx.InvalidURL, Refused) as error:
            raise ImageUnreachable(f"{url} can't be fetched: {error}") from error
        raise ImageUnreachable(f"{url} redirects more than {_MAX_REDIRECTS} times")

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
        """The answer to a POST, without its body; redirects are not followed.

        Raises:
            Refused: the URL may not be called.
            httpx.HTTPError: it can't be reached.
            httpx.InvalidURL: it is none.
        """
        with self._call("POST", httpx.URL(url), body, headers) as response:
            return response

    @contextmanager
    def _call(
        self, method: str, url: httpx.URL, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        address = self._resolve(url)
        request = self._client.build_request(
            method,
            url.copy_with(host=str(address)),
            content=body,
            headers={**(headers or {}), "Host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.host},
        )
        response = self._client.send(request, stream=True)
        try:
            yield response
        finally:
            response.close()

    def _resolve(self, url: httpx.URL) -> Address:
        if url.scheme not in _PORTS:
            raise Refused(f"{url.scheme!r} is not called; use http or https")
        if url.userinfo:
            raise Refused("a URL with a user name or password in it is not called")
        try:
            found = socket.getaddrinfo(url.host, url.port or _PORTS[url.scheme], type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Refused(f"the host {url.host!r} is not known") from error
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        for address in addresses:
            if not self._is_allowed(url.host, address):
                raise Refused(f"{url.host!r} is not a public host")
        return addresses[0]

    def _is_allowed(self, host: str, address: Address) -> bool:
        return (
            is_public(address)
            or host.lower() in self._hosts
            or any(address in network for network in self._networks if network.version == address.version)
        )


def _read(response: httpx.Response, max_bytes: int) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > max_bytes:
            raise ImageTooLarge(f"the image is larger than the {max_bytes} bytes that are taken")
    return bytes(body)
