"""The service under faults: nothing that was accepted is lost, and nothing is told that is not so."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis

from bench.fault_proxy import FaultProxy
from bench.faults import Campaign
from maskline import Client, Prompt
from maskline.jobs import JobState
from maskline.local import Stack
from maskline.resources import JobResource
from tests.factories import DISC_BOX
from tests.service.conftest import QUICK

BRIEF = {
    **QUICK,
    "MASKLINE_LEASE": "3",
    "MASKLINE_MAX_IMAGE_BYTES": "30000000",
}


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def signal_all(stack: Stack, name: str, number: signal.Signals) -> None:
    pid = stack.process(name).pid
    assert pid is not None
    os.killpg(pid, number)


def test_kills_freezes_wipes_and_a_failing_store_lose_and_double_nothing() -> None:
    campaign = Campaign(80, 8, 4, settings=BRIEF, spread_s=1.5, frozen_s=5.0)
    report = campaign.run()
    assert report.jobs == 80
    assert report.faults["wipe of redis"] == 2
    assert report.s3_faults > 0
    assert (report.lost, report.ended_twice, report.corrupt, report.untold) == ([], [], [], [])
    assert report.failed == []


def test_a_redis_that_lost_its_memory_is_filled_again_and_meanwhile_nothing_is_denied(
    own_stack: Stack, disc: bytes
) -> None:
    with Client(own_stack.url, own_stack.api_key) as client:
        key = client.create_key("lab", tenant="lab").key
        hook = client.create_webhook("https://example.com/hook")
    headers = {"Authorization": f"Bearer {key}"}
    with (
        Client(own_stack.url, key) as lab,
        httpx.Client(base_url=own_stack.url, headers=headers, trust_env=False, timeout=30) as http,
    ):
        done = lab.wait(lab.submit(disc, prompts=[Prompt(label="disc", box=DISC_BOX)]).id)
        failed = wait_for_end(lab, lab.submit("http://127.0.0.1:1/absent.png").id)
        mask = http.get(f"/v1/jobs/{done.id}/categoryMask.png").content
        signal_all(own_stack, "worker-1", signal.SIGSTOP)
        cancelled = lab.cancel(lab.submit(disc).id)
        waiting = lab.submit(disc, idempotency_key="once")
        with redis.Redis.from_url(own_stack.environment["MASKLINE_REDIS_URL"]) as server:
            server.flushall()
        time.sleep(2.1)  # an ended job that was read may be told of for two seconds
        for method, path in (("GET", f"/v1/jobs/{done.id}"), ("GET", "/v1/jobs"), ("POST", "/v1/jobs")):
            answer = http.request(method, path, content=disc, headers={"Content-Type": "image/png"})
            assert answer.status_code == 503, answer.text
            assert answer.json()["code"] == "job_store_unavailable"
            assert int(answer.headers["Retry-After"]) > 0
        assert http.get("/readyz").status_code == 503
        signal_all(own_stack, "worker-1", signal.SIGCONT)
        until(lambda: http.get("/readyz").status_code == 200)
        states = {one.id: lab.get(one.id).state for one in (done, failed, cancelled)}
        assert states == {
            done.id: JobState.SUCCEEDED,
            failed.id: JobState.FAILED,
            cancelled.id: JobState.CANCELLED,
        }
        error = lab.get(failed.id).error
        assert error is not None
        assert error.code == "image_unreachable"
        assert http.get(f"/v1/jobs/{done.id}/categoryMask.png").content == mask
        assert lab.submit(disc, idempotency_key="once").id == waiting.id
        assert lab.wait(waiting.id, timeout=60).state is JobState.SUCCEEDED
    with Client(own_stack.url, own_stack.api_key) as client:
        assert [one.id for one in client.webhooks()] == [hook.id]


def wait_for_end(client: Client, job_id: str) -> JobResource:
    until(lambda: client.get(job_id).state.is_final)
    return client.get(job_id)


@pytest.fixture
def behind_a_proxy(tmp_path: Path) -> Iterator[tuple[Stack, FaultProxy]]:
    """A service whose calls to S3 can be made to fail."""
    stacks: list[Stack] = []

    def port() -> int:
        command = stacks[0].process("s3").command
        return int(command[command.index("--addr") + 1].rpartition(":")[2])

    with FaultProxy(port, 0.0, 1) as proxy:
        stacks.append(Stack(tmp_path, environment={**QUICK, "MASKLINE_S3_ENDPOINT": proxy.url}))
        with stacks[0] as stack:
            yield stack, proxy


def test_without_s3_nothing_is_accepted_and_what_was_goes_on_after(
    behind_a_proxy: tuple[Stack, FaultProxy], disc: bytes
) -> None:
    stack, proxy = behind_a_proxy
    headers = {"Authorization": f"Bearer {stack.api_key}", "Content-Type": "image/png"}
    with Client(stack.url, stack.api_key) as client:
        signal_all(stack, "worker-1", signal.SIGSTOP)
        waiting = client.submit(disc)
        proxy.is_down = True
        before = len(list(client.list()))
        refused = httpx.post(
            f"{stack.url}/v1/jobs", content=disc, headers=headers, timeout=60, trust_env=False
        )
        assert refused.status_code == 503, refused.text
        assert refused.json()["code"] == "artifact_store_unavailable"
        assert int(refused.headers["Retry-After"]) > 0
        assert len(list(client.list())) == before
        signal_all(stack, "worker-1", signal.SIGCONT)
        until(lambda: client.get(waiting.id).attempt > 1)  # it was given back, and tried again
        proxy.is_down = False
        assert client.wait(waiting.id, timeout=60).state is JobState.SUCCEEDED


def test_without_redis_nothing_is_accepted(own_stack: Stack, disc: bytes) -> None:
    headers = {"Authorization": f"Bearer {own_stack.api_key}", "Content-Type": "image/png"}
    own_stack.suspend_watch()
    signal_all(own_stack, "redis", signal.SIGKILL)
    refused = httpx.post(
        f"{own_stack.url}/v1/jobs", content=disc, headers=headers, timeout=60, trust_env=False
    )
    assert (refused.status_code, refused.json()["code"]) == (503, "job_store_unavailable")
    assert int(refused.headers["Retry-After"]) > 0
