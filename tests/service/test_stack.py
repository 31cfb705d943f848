"""The embedded stack: it starts, survives, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from maskline import ApiError, Client
from maskline.jobs import JobState
from maskline.local import Stack, StackError
from maskline.settings import SettingsError

SLOW = {"iterations": 20, "maxSide": 1024}


def descendants(pid: int) -> set[int]:
    """The processes under one, by what the kernel tells of their parents."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found: set[int] = set()
    frontier = {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier} - found
        found |= frontier
    return found


def alive(pids: set[int]) -> set[int]:
    def runs(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    return {pid for pid in pids if runs(pid)}


def wait_for_none(pids: set[int], timeout_s: float) -> set[int]:
    deadline = time.monotonic() + timeout_s
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive(pids)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], set[int], Client]]:
    """``maskline up`` in a process of its own, what runs under it, and a client."""
    command = [
        sys.executable,
        "-m",
        "maskline",
        "up",
        "--port",
        "18080",
        "--data-dir",
        str(tmp_path / "data"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Ctrl-C"):
            break
    service = json.loads((tmp_path / "data" / "service.json").read_text())
    with Client(service["url"], service["apiKey"]) as client:
        yield process, descendants(process.pid), client
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_command(
    served: tuple[subprocess.Popen[str], set[int], Client], disc: bytes, number: signal.Signals
) -> None:
    process, children, client = served
    assert len(children) >= 6  # Redis, S3, a worker, gunicorn and its two processes
    client.wait(client.submit(disc).id, timeout=60)
    process.send_signal(number)
    process.wait(30)
    assert wait_for_none(children, 5) == set()
    if number is not signal.SIGKILL:
        assert process.returncode == 0


def test_a_restart_finds_everything_again(tmp_path: Path, disc: bytes) -> None:
    with Stack(tmp_path / "data") as first, Client(first.url, first.api_key) as client:
        job = client.wait(client.submit(disc).id, timeout=60)
        mask = client.category_mask(job.id)
    with Stack(tmp_path / "data") as second, Client(second.url, second.api_key) as client:
        assert second.api_key == first.api_key
        assert client.get(job.id).state is JobState.SUCCEEDED
        assert client.category_mask(job.id) == mask
        assert client.wait(client.submit(disc).id, timeout=60).state is JobState.SUCCEEDED


def test_two_stacks_do_not_share_a_folder(own_stack: Stack) -> None:
    folder = own_stack.log_dir.parent
    with pytest.raises(StackError, match="another stack"), Stack(folder):
        pass


def test_a_wrong_setting_is_told_before_anything_starts(tmp_path: Path) -> None:
    with (
        pytest.raises(SettingsError, match="MASKLINE_LEASE"),
        Stack(tmp_path / "data", environment={"MASKLINE_LEASE": "never"}),
    ):
        pass


def test_devices_are_handed_out_to_the_workers_in_turn(tmp_path: Path) -> None:
    with Stack(tmp_path / "data", workers=3, devices=("cpu", "cuda:1")) as stack:
        environments = [
            Path(f"/proc/{stack.process(f'worker-{number}').pid}/environ").read_text().split("\0")
            for number in (1, 2, 3)
        ]
    devices = [[one for one in each if one.startswith("MASKLINE_DEVICE=")] for each in environments]
    assert devices == [["MASKLINE_DEVICE=cpu"], ["MASKLINE_DEVICE=cuda:1"], ["MASKLINE_DEVICE=cpu"]]


def test_a_job_whose_worker_is_killed_succeeds_once(own_stack: Stack, coffee: bytes) -> None:
    with Client(own_stack.url, own_stack.api_key) as client:
        job = client.submit(coffee, parameters=SLOW)
        while client.get(job.id).state is not JobState.RUNNING:
            time.sleep(0.01)
        worker = own_stack.process("worker-1").pid
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        killed = time.monotonic()
        seen = [event.state for event in client.events(job.id)]
        done = client.wait(job.id, timeout=60)
        assert time.monotonic() - killed < 30
        assert done.attempt == 2
        assert seen[-1] is JobState.SUCCEEDED
        assert seen.count(JobState.SUCCEEDED) == 1
        bucket = own_stack.log_dir.parent / "s3" / "maskline" / "results" / job.id
        assert [path.name for path in bucket.iterdir()] == ["2"]


def test_a_worker_that_is_asked_to_stop_finishes_what_it_holds(own_stack: Stack, coffee: bytes) -> None:
    with Client(own_stack.url, own_stack.api_key) as client:
        job = client.submit(coffee, parameters=SLOW)
        while client.get(job.id).state is not JobState.RUNNING:
            time.sleep(0.01)
        worker = own_stack.process("worker-1").pid
        assert worker is not None
        os.kill(worker, signal.SIGTERM)
        done = client.wait(job.id, timeout=60)
        assert done.attempt == 1


@pytest.mark.parametrize("name", ["redis", "s3"])
def test_without_a_dependency_the_api_says_which(own_stack: Stack, disc: bytes, name: str) -> None:
    own_stack.suspend_watch()
    pid = own_stack.process(name).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while own_stack.process(name).is_alive:
        time.sleep(0.01)
    headers = {"Authorization": f"Bearer {own_stack.api_key}"}
    with httpx.Client(base_url=own_stack.url, headers=headers, timeout=60) as http:
        ready = http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["dependencies"][name] != "ok"
        refused = http.post("/v1/jobs", content=disc, headers={"Content-Type": "image/png"})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        own_stack.process(name).start()
        own_stack.process(name).wait_until_ready(10)
        deadline = time.monotonic() + 20
        while http.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    with Client(own_stack.url, own_stack.api_key) as client:
        assert client.wait(client.submit(disc).id, timeout=60).state is JobState.SUCCEEDED


def test_a_job_goes_to_a_worker_that_has_its_model(tmp_path: Path, disc: bytes) -> None:
    catalog = tmp_path / "catalog.yaml"
    entry = "  - {{id: {0}, family: grabcut, displayName: {0}}}\n"
    catalog.write_text("models:\n" + entry.format("here") + entry.format("there/v1"))
    settings = {"MASKLINE_CATALOG_FILE": str(catalog), "MASKLINE_WORKER_MODELS": "here"}
    with (
        Stack(tmp_path / "own", environment=settings) as stack,
        Client(stack.url, stack.api_key) as client,
    ):
        with pytest.raises(ApiError, match="there/v1"):
            client.submit(disc, model="there/v1")
        environment = {**os.environ, **stack.environment, "MASKLINE_WORKER_MODELS": "there/v1"}
        other = subprocess.Popen([sys.executable, "-m", "worker"], env=environment)
        try:
            deadline = time.monotonic() + 30
            while len([model for model in client.models().models if model.available]) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            jobs = [client.submit(disc, model=model) for model in ("here", "there/v1") * 3]
            assert {client.wait(job.id, timeout=60).state for job in jobs} == {JobState.SUCCEEDED}
        finally:
            other.terminate()
            other.wait()
        waiting, served = client.submit(disc, model="there/v1"), client.submit(disc, model="here")
        assert client.wait(served.id, timeout=60).state is JobState.SUCCEEDED
        assert client.get(waiting.id).state is JobState.QUEUED


def test_an_api_process_imports_no_tensors() -> None:
    code = (
        "import sys, api.wsgi;"
        "print([name for name in ('torch', 'numpy', 'cv2', 'worker') if name in sys.modules])"
    )
    keys = {"MASKLINE_S3_ACCESS_KEY": "some", "MASKLINE_S3_SECRET_KEY": "some", "MASKLINE_URL_SECRET": "some"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | keys, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
