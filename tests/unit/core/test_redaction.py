"""No secret gets into a log, wherever in a line it stands."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import urllib3

from maskline.adapters.s3_signing import presigned_url
from maskline.keys import make_key
from maskline.redaction import redactor

ROOT = Path(__file__).parents[3]
KEY = make_key("one")[1]
SECRET = KEY.rpartition("_")[2]


@pytest.mark.parametrize(
    "line",
    [
        f"{KEY}",
        f"GET /v1/jobs?api_key={KEY}&x=1",
        f'{{"headers": {{"authorization": "Bearer {SECRET}"}}}}',
        f"Authorization: Bearer: {SECRET}",
        f"X-API-Key: {SECRET}",
        f"x-goog-api-key={SECRET}",
        json.dumps({"event": json.dumps({"api_key": SECRET})}),
        f"whsec_{SECRET}/+=",
        f"http://h/v1/artifacts/results/x?expires=1&signature={SECRET}",
        f"http://s3/b/k?X-Amz-Credential={SECRET}%2Fus-east-1&X-Amz-Signature={SECRET}",
        f"http://s3/b/k?X-Amz-Security-Token={SECRET}",
        f"redis://:{SECRET}@redis:6379/0",
        f"redis://user:{SECRET}@redis:6379/0",
        f"{{'password': '{SECRET}'}}",
        json.dumps({"exception": f"line\n{KEY}"}),
        json.dumps({"exception": f"line\npassword={SECRET}"}),
        f"BEARER {SECRET}",
    ],
)
def test_what_looks_like_a_secret_is_hidden(line: str) -> None:
    told = redactor()(line)
    assert SECRET not in told
    assert "[hidden]" in told


def test_what_is_known_to_be_a_secret_is_hidden_whatever_it_looks_like() -> None:
    redact = redactor(['pass "word" of mine', "pass", "mask of a thing", "mask of a thing, longer"])
    line = redact('a pass, pass "word" of mine, ' + json.dumps({"x": 'pass "word" of mine'}))
    assert line == 'a pass, [hidden], {"x": "[hidden]"}'
    assert redact("mask of a thing, longer") == "[hidden]"


def test_the_rest_of_a_line_stays() -> None:
    record, key = make_key("one")
    line = json.dumps({"key": "jobs/x/submission.png", "url": f"http://h/a?api_key={key}&b=1", "status": 401})
    assert redactor()(line) == line.replace(SECRET, "x").replace(key, "[hidden]")
    assert record.id in redactor()(f"the key {key} is over")
    for harmless in ("no secret to sign with", "http://127.0.0.1:8080/v1/jobs", "bearer", "signature none"):
        assert redactor()(harmless) == harmless


def test_a_signed_url_in_a_library_s_warning_is_hidden(caplog: pytest.LogCaptureFixture) -> None:
    """urllib3 logs the URL that it calls again."""
    url = presigned_url(
        "GET",
        "http://127.0.0.1:9/bucket/key",
        access_key="AKIAEXAMPLE",
        secret_key=SECRET,
        session_token=None,
        region="us-east-1",
        expires_s=60,
    )
    with (
        caplog.at_level(logging.WARNING, "urllib3"),
        pytest.raises(urllib3.exceptions.MaxRetryError),
        urllib3.PoolManager() as pool,
    ):
        pool.request("GET", url, retries=urllib3.Retry(1, backoff_factor=0))
    signature = url.partition("X-Amz-Signature=")[2]
    assert signature in caplog.text
    assert signature not in redactor()(caplog.text)
    assert "AKIAEXAMPLE" not in redactor()(caplog.text)


PROGRAM = """
import logging
from maskline.log import configure_logging
import structlog

configure_logging("DEBUG", "{form}", ["a secret of this process"])
log = structlog.get_logger()
log.info("a secret of this process", url="http://h/?api_key={key}", headers={{"X-API-Key": "{key}"}})
logging.getLogger("lib").warning("sent %s", "Bearer {key}")
for name in (log, logging.getLogger("lib")):
    try:
        raise ValueError("http://h/?signature={secret}")
    except ValueError:
        name.exception("it failed")
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_every_line_of_a_process_is_without_secrets(form: str) -> None:
    program = PROGRAM.format(form=form, key=KEY, secret=SECRET)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    assert SECRET not in done.stderr
    assert "a secret of this process" not in done.stderr
    assert done.stderr.count("it failed") == 2
    assert done.stderr.count("[hidden]") >= 6
    if form == "json":
        assert all(json.loads(line) for line in done.stderr.splitlines())
