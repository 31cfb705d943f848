"""Addresses that clients name: what may be called, and what may not."""

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from maskline.adapters.guarded_network import is_public
from maskline.adapters.outgoing import OutgoingClient
from maskline.errors import ImageTooLarge, ImageUnreachable

NOT_PUBLIC = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "fc00::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ("1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001::1")


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_inside_address_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_an_outside_address_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


class Site(BaseHTTPRequestHandler):
    hosts: ClassVar[list[str]] = []
    authorizations: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.hosts.append(self.headers["Host"])
        self.authorizations.append(self.headers["Authorization"])
        match self.path:
            case "/image":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"x" * 1000)
            case "/away":
                self.send_response(302)
                self.send_header("Location", "http://169.254.169.254/latest")
                self.end_headers()
            case "/on":
                self.send_response(302)
                self.send_header("Location", "/image")
                self.end_headers()
            case "/across":
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{self.server.server_port}/image")  # type: ignore[attr-defined]
                self.end_headers()
            case "/round":
                self.send_response(302)
                self.send_header("Location", "/round")
                self.end_headers()
            case "/astray":
                self.send_response(302)
                self.send_header("Location", "http://x:abc/")
                self.end_headers()
            case "/nowhere":
                self.send_response(302)
                self.end_headers()
            case "/drip":
                self.send_response(200)
                self.end_headers()
                with suppress(OSError):
                    for _ in range(100):
                        self.wfile.write(b"x")
                        time.sleep(0.1)
            case _:
                self.send_response(404)
                self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_allowed_host_is_called_under_its_name(site: int) -> None:
    for allowed in ("127.0.0.0/8", "localhost"):
        client = OutgoingClient([allowed, "::1/128"])
        assert client.get_image(f"http://localhost:{site}/on", 1000) == b"x" * 1000
        assert Site.hosts[-1] == f"localhost:{site}"


def test_an_authorization_is_for_the_origin_that_it_was_given_for(site: int) -> None:
    client = OutgoingClient(["127.0.0.0/8", "::1/128"])
    for path, seen in (("/on", ["Token t", "Token t"]), ("/across", ["Token t", None])):
        Site.authorizations.clear()
        client.get_image(f"http://127.0.0.1:{site}{path}", 1000, authorization="Token t")
        assert Site.authorizations == seen


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/away", "not a public host"),
        ("/astray", "no URL"),
        ("/round", "redirects more"),
        ("/nowhere", "302"),
        ("/none", "404"),
    ],
)
def test_a_site_that_leads_nowhere(site: int, path: str, words: str) -> None:
    with pytest.raises(ImageUnreachable, match=words):
        OutgoingClient(["127.0.0.1"]).get_image(f"http://127.0.0.1:{site}{path}", 1000)


def test_an_answer_that_drips_is_given_up(site: int) -> None:
    began = time.monotonic()
    with pytest.raises(ImageUnreachable, match="can't be fetched"):
        OutgoingClient(["127.0.0.1"], lasting_s=0.5).get_image(f"http://127.0.0.1:{site}/drip", 1000)
    assert time.monotonic() - began < 5


def test_a_large_answer_is_cut_off(site: int) -> None:
    with pytest.raises(ImageTooLarge, match="999"):
        OutgoingClient(["127.0.0.1"]).get_image(f"http://127.0.0.1:{site}/image", 999)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://127.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://localhost/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "http://user:password@example.com/",
        "http://",
        "http://exa mple.com/",
        "http://xn--/",
        "http://xn--a/",
        "http://1.1.1.1:9999999999999999999999999/",
        "http://1.1.1.1:0/",
    ],
)
def test_what_is_never_called(url: str) -> None:
    with pytest.raises(ImageUnreachable):
        OutgoingClient().get_image(url, 1000)


def test_a_name_is_resolved_once_and_every_address_checked(
    monkeypatch: pytest.MonkeyPatch, site: int
) -> None:
    answers = [["93.184.216.34", "127.0.0.1"], ["127.0.0.1"]]
    asked: list[str] = []

    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(2, 1, 6, "", (address, port)) for address in answers[len(asked) - 1]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(ImageUnreachable, match="not a public host"):
        OutgoingClient().get_image(f"http://rebinding.example:{site}/image", 1000)
    assert asked == ["rebinding.example"]
