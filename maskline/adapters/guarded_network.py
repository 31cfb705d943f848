"""The network as clients may use it through us: public hosts only, and no longer than a deadline.

A name is resolved once, every address is checked, and the connection goes to the address that was checked, so
that a name which changes its address in between gains nothing. TLS still checks the name.
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Public by the registries, yet a way inside: cloud metadata, and IPv6 forms that carry an IPv4 address.
_REFUSED: Sequence[Network] = [
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",
        "192.0.0.0/24",
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


class Guard:
    """Says which address a host may be called at."""

    def __init__(self, allow: Iterable[str] = ()) -> None:
        """``allow``: host names, addresses or networks that may be called although they are not public."""
        self._hosts: set[str] = set()
        self._networks: list[Network] = []
        for entry in allow:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                self._hosts.add(entry.lower())

    def resolve(self, host: str, port: int) -> Address:
        """An address of the host, all of whose addresses may be called.

        Raises:
            Refused: the host is not known, or one of its addresses may not be called.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Refused(f"the host {host!r} is not known") from error
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        for address in addresses:
            if not self._is_allowed(host, address):
                raise Refused(f"{host!r} is not a public host")
        return addresses[0]

    def _is_allowed(self, host: str, address: Address) -> bool:
        return (
            is_public(address)
            or host.lower() in self._hosts
            or any(address in network for network in self._networks if network.version == address.version)
        )


class GuardedNetwork(httpcore.NetworkBackend):
    """Connections that the guard allows, all of which end with one deadline."""

    def __init__(self, guard: Guard, lasting_s: float) -> None:
        """``lasting_s``: from now."""
        self._guard = guard
        self._deadline = time.monotonic() + lasting_s
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the address that was checked.

        Raises:
            Refused: the host may not be called.
            httpcore.TimeoutException, httpcore.NetworkError: it can't be reached.
        """
        address = self._guard.resolve(host, port)
        return _TimedStream(
            self._network.connect_tcp(
                str(address), port, _time_left(self._deadline, timeout), local_address, socket_options
            ),
            self._deadline,
        )


class _TimedStream(httpcore.NetworkStream):
    """A stream on which no call outlasts the deadline: a timeout for each call would let a sender drip."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _time_left(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _time_left(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = _time_left(self._deadline, timeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._deadline)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 (as the library has it)
        return self._stream.get_extra_info(info)


def _time_left(deadline: float, timeout: float | None) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("it takes too long")
    return left if timeout is None else min(left, timeout)
