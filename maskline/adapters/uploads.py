"""HTTP uploads by libcurl, which takes a third of the processor's time that urllib3 takes for one."""

import ssl
from functools import partial
from io import BytesIO
from typing import BinaryIO

import certifi
import pycurl

_CONNECT_TIMEOUT_S = 5
_STALL_S = 30  # without a byte either way
_BUFFER_BYTES = 1 << 18
_TRUSTED = ssl.get_default_verify_paths()


class UploadFailed(Exception):
    """The server was not reached, or it fell silent."""


class Uploader:
    """Sends bodies over kept connections, as many as are used at once. Safe to use from many threads."""

    def __init__(self) -> None:
        self._idle: list[pycurl.Curl] = []

    def put(self, url: str, body: BinaryIO, length: int, media_type: str) -> int:
        """The status of the answer to ``PUT url`` with the whole of ``body``.

        ``body``: at its beginning, and seekable; ``length``: of it, in bytes.

        Raises:
            UploadFailed: there was no answer.
        """
        try:
            curl = self._idle.pop()
        except IndexError:
            curl = _new_curl()
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.READDATA, body)
        # For a kept connection that the server has closed, which shows when part of the body is sent.
        curl.setopt(pycurl.SEEKFUNCTION, partial(_rewind, body))
        curl.setopt(pycurl.INFILESIZE_LARGE, length)
        curl.setopt(pycurl.HTTPHEADER, [f"Content-Type: {media_type}", "Expect:"])
        curl.setopt(pycurl.WRITEDATA, BytesIO())
        try:
            curl.perform()
        except pycurl.error as error:
            curl.close()
            raise UploadFailed(str(error)) from error
        status: int = curl.getinfo(pycurl.RESPONSE_CODE)
        curl.unsetopt(pycurl.SEEKFUNCTION)  # so that the handle does not keep the body
        curl.setopt(pycurl.READDATA, BytesIO())
        self._idle.append(curl)
        return status


def _rewind(body: BinaryIO, offset: int, whence: int) -> int:
    body.seek(offset, whence)
    return pycurl.SEEKFUNC_OK


def _new_curl() -> pycurl.Curl:
    curl = pycurl.Curl()
    curl.setopt(pycurl.UPLOAD, True)
    curl.setopt(pycurl.UPLOAD_BUFFERSIZE, _BUFFER_BYTES)
    curl.setopt(pycurl.CONNECTTIMEOUT, _CONNECT_TIMEOUT_S)
    curl.setopt(pycurl.LOW_SPEED_LIMIT, 1)
    curl.setopt(pycurl.LOW_SPEED_TIME, _STALL_S)
    curl.setopt(pycurl.NOSIGNAL, True)  # many threads do this at once
    curl.setopt(pycurl.PROXY, "")  # the store is reached directly, as by urllib3 in the same process
    curl.setopt(pycurl.CAINFO, _TRUSTED.cafile or certifi.where())
    if _TRUSTED.capath:
        curl.setopt(pycurl.CAPATH, _TRUSTED.capath)
    return curl
