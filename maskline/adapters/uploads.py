"""HTTP uploads by libcurl, which takes a third of the processor's time that urllib3 takes for one."""

import ssl
from io import BytesIO
from typing import BinaryIO

import certifi
import pycurl

_CONNECT_TIMEOUT_S = 5
_STALL_S = 30  # without a byte either way
_BUFFER_BYTES = 1 << 18
_AUTHORITIES = ssl.get_default_verify_paths().cafile or certifi.where()


class UploadFailed(Exception):
    """The server was not reached, or it fell silent."""


class Uploader:
    """Sends bodies over kept connections, as many as are used at once. Safe to use from many threads."""

    def __init__(self) -> None:
        self._idle: list[pycurl.Curl] = []

    def put(self, url: str, body: BinaryIO, length: int, media_type: str) -> int:
        """The status of the answer to ``PUT url`` with what is left of ``body``, ``length`` bytes.

        Raises:
            UploadFailed: there was no answer.
        """
        curl = self._idle.pop() if self._idle else _new_curl()
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.READDATA, body)
        curl.setopt(pycurl.INFILESIZE_LARGE, length)
        curl.setopt(pycurl.HTTPHEADER, [f"Content-Type: {media_type}", "Expect:"])
        curl.setopt(pycurl.WRITEDATA, BytesIO())
        try:
            curl.perform()
        except pycurl.error as error:
            curl.close()
            raise UploadFailed(str(error)) from error
        status: int = curl.getinfo(pycurl.RESPONSE_CODE)
        curl.setopt(pycurl.READDATA, BytesIO())  # so that the handle does not keep the body
        self._idle.append(curl)
        return status


def _new_curl() -> pycurl.Curl:
    curl = pycurl.Curl()
    curl.setopt(pycurl.UPLOAD, True)
    curl.setopt(pycurl.UPLOAD_BUFFERSIZE, _BUFFER_BYTES)
    curl.setopt(pycurl.CONNECTTIMEOUT, _CONNECT_TIMEOUT_S)
    curl.setopt(pycurl.LOW_SPEED_LIMIT, 1)
    curl.setopt(pycurl.LOW_SPEED_TIME, _STALL_S)
    curl.setopt(pycurl.NOSIGNAL, True)  # many threads do this at once
    curl.setopt(pycurl.PROXY, "")  # the store is reached directly, as by boto3 in the same process
    curl.setopt(pycurl.CAINFO, _AUTHORITIES)
    return curl
