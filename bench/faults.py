"""Jobs under faults: processes killed and frozen, Redis emptied, S3 that fails; does each promise hold?

``python -m bench.faults [JOBS [FAULTS [SEED …]]]``
"""

import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np
import redis
from PIL import Image
from standardwebhooks.webhooks import Webhook as Verifier

from bench.fault_proxy import FaultProxy
from bench.figure import Figure, print_figures
from maskline import Client, MasklineError, Prompt, Webhook
from maskline.errors import WorkerLost
from maskline.jobs import PER_EPOCH
from maskline.local import Stack
from maskline.local.ports import HOST
from maskline.requests import EventType
from maskline.resources import JobResource
from maskline.settings import Settings

JOBS = 2000
FAULTS = 60
SEEDS = (1, 2, 3)
WIPES = 2
S3_FAULTS = 0.05
RECOVERY_S = 30.0
CLIENTS = 6
_SECRET = "whsec_" + "B" * 32
_IMAGES = 24
_SPREAD_S = 3.0  # between two faults, on average
FROZEN_S = 25.0  # at most, of a worker: longer than its lease
_FROZEN_LEAST_S = 0.5
_FROZEN_OTHERS_S = 4.0
_PATIENCE_S = 600.0  # for the last job, and for the last event
_WIPE_PATIENCE_S = 30.0
_EVENTS = (EventType.STARTED, EventType.SUCCEEDED, EventType.FAILED, EventType.EXPIRED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """An event that told of a job."""

    event_id: str
    state: str
    at: float
    """Seconds since 1970."""


@dataclass
class Told:
    """What the webhooks said of one job."""

    moves: dict[int, Move] = field(default_factory=dict)
    """By the version of the job that each made."""

    @property
    def starts(self) -> list[float]:
        """When its attempts started, in seconds since 1970."""
        return sorted(move.at for move in self.moves.copy().values() if move.state == "started")

    @property
    def ends(self) -> dict[int, Move]:
        """Of the moves those that ended it."""
        return {version: move for version, move in self.moves.copy().items() if move.state != "started"}

    def has_one_end(self, state: str) -> bool:
        """Whether it ended in this state alone, under one id, and moved no more, as far as was told.

        A rebuild may tell of the same end once more, under the first version of its epoch.
        """
        ends = self.ends
        if not ends:
            return True
        ids, states = {move.event_id for move in ends.values()}, {move.state for move in ends.values()}
        moved_on = any(version > min(ends) and version % PER_EPOCH for version in self.moves)
        return len(ids) == 1 and states == {state} and not moved_on


@dataclass(kw_only=True)
class Report:
    """What became of the jobs of one run."""

    jobs: int
    faults: Counter[str]
    s3_calls: int
    s3_faults: int
    lost: list[str]
    """Accepted, and not ended, or unknown."""
    ended_twice: list[str]
    """Told of two ends, or of another than the record's, or of a move after it, or changed after the end."""
    corrupt: list[str]
    """Whose masks are not those of the image."""
    failed: list[str]
    """That ended otherwise than in success, and for no reason that the faults give."""
    given_up: list[str]
    """Failed as ``worker_lost``, after as many faults of workers or Redis as the settings let a job bear."""
    untold: list[str]
    """Whose end no webhook told."""
    recovery_s: float
    """The longest from the start of an attempt that was lost to the start of the next."""
    lasted_s: float


def picture(number: int) -> bytes:
    """A PNG of a tenth of a megapixel; no two have the same size."""
    width, height = 400 + number % 6 * 4, 320 + number // 6 * 4
    pixels = np.full((height, width, 3), (20, 120, 40), np.uint8)
    pixels[height // 4 : -height // 4, width // 4 : -width // 4] = (200, 40 + number * 5, 30)
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def prompt(number: int) -> Prompt:
    """A box around what is to be seen in ``picture(number)``."""
    width, height = 400 + number % 6 * 4, 320 + number // 6 * 4
    return Prompt(label="thing", box=(width / 5, height / 5, width * 4 / 5, height * 4 / 5))


@contextmanager
def listener(told: Mapping[str, Told], share: float, seed: int) -> Iterator[str]:
    """A receiver of webhooks, which fails at a share of them; its URL."""
    chance = random.Random(seed)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            event = Verifier(_SECRET).verify(body, dict(self.headers.items()))
            with lock:
                data = event["data"]
                told[data["id"]].moves[data["version"]] = Move(
                    event_id=self.headers["webhook-id"],
                    state=event["type"].removeprefix("job."),
                    at=datetime.fromisoformat(event["timestamp"]).timestamp(),
                )
                fails = chance.random() < share
            self.send_response(503 if fails else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/hook"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Campaign:
    """One run over a stack of its own."""

    def __init__(
        self,
        jobs: int,
        faults: int,
        seed: int,
        *,
        settings: Mapping[str, str],
        spread_s: float,
        frozen_s: float,
    ) -> None:
        """``settings``: of the service, by their variables; ``spread_s``: between two faults, on average;
        ``frozen_s``: the longest that a worker is frozen."""
        self._jobs = jobs
        self._faults = faults
        self._chance = random.Random(seed)
        self._seed = seed
        self._settings = dict(settings)
        self._spread_s = spread_s
        self._frozen_s = frozen_s
        self._told: defaultdict[str, Told] = defaultdict(Told)
        self._done_faults: Counter[str] = Counter()
        self._lease_faults: list[float] = []
        self._most_losses = Settings.from_env(settings).max_attempts
        self._accepted: dict[str, int] = {}
        self._over = threading.Event()

    def run(self) -> Report:
        """Accept the jobs while faults happen, wait for their ends, and look at each."""
        began = time.monotonic()
        with ExitStack() as held:
            folder = held.enter_context(tempfile.TemporaryDirectory())
            stacks: list[Stack] = []
            proxy = held.enter_context(FaultProxy(lambda: _s3_port(stacks[0]), 0.0, self._seed))
            url = held.enter_context(listener(self._told, 0.02, self._seed))
            stack = Stack(
                Path(folder),
                workers=2,
                environment={
                    "MASKLINE_S3_ENDPOINT": proxy.url,
                    "MASKLINE_OUTGOING_ALLOW": HOST,
                    "MASKLINE_LOG_LEVEL": "WARNING",
                    **self._settings,
                },
            )
            stacks.append(stack)
            held.enter_context(stack)
            expected = self._expected(stack)
            proxy.share = S3_FAULTS
            harm = threading.Thread(target=self._harm, args=(stack,))
            harm.start()
            with ThreadPoolExecutor(CLIENTS) as clients:
                list(clients.map(lambda number: self._submit(stack, number, url), range(self._jobs)))
                harm.join()
                proxy.share = 0.0
                ended = dict(clients.map(lambda job_id: (job_id, _end(stack, job_id)), self._accepted))
                self._await_events()
                again = dict(clients.map(lambda job_id: (job_id, _end(stack, job_id)), self._accepted))
                masks = dict(clients.map(lambda job_id: (job_id, _masks(stack, job_id)), self._accepted))
            return self._report(
                ended=ended,
                again=again,
                masks=masks,
                expected=expected,
                proxy=proxy,
                lasted_s=time.monotonic() - began,
            )

    def _expected(self, stack: Stack) -> list[tuple[bytes, bytes]]:
        """The masks of each image, made in peace."""
        masks = []
        with Client(stack.url, stack.api_key) as client:
            for number in range(_IMAGES):
                job = client.submit(picture(number), prompts=[prompt(number)], parameters={"iterations": 4})
                client.wait(job.id)
                masks.append(_masks(stack, job.id))
        assert all(both is not None for both in masks)
        return [both for both in masks if both is not None]

    def _submit(self, stack: Stack, number: int, url: str) -> None:
        """Have one job accepted, however often that takes, at a pace that lasts as long as the faults."""
        time.sleep(self._faults * self._spread_s / self._jobs * CLIENTS)
        image = number % _IMAGES
        webhook = Webhook(url=url, secret=_SECRET, events=_EVENTS)
        while True:
            with suppress(MasklineError), Client(stack.url, stack.api_key) as client:
                job = client.submit(
                    picture(image),
                    prompts=[prompt(image)],
                    parameters={"iterations": 4},
                    webhook=webhook,
                    idempotency_key=f"{self._seed}-{number}",
                )
                self._accepted[job.id] = image
                return
            time.sleep(0.2)

    def _harm(self, stack: Stack) -> None:
        wipes = set(self._chance.sample(range(self._faults // 4, self._faults), WIPES))
        for number in range(self._faults):
            time.sleep(self._chance.uniform(0.2, 2 * self._spread_s - 0.2))
            if number in wipes:
                kind = _wipe(stack)
            else:
                name = self._chance.choice(("worker-1", "worker-1", "worker-2", "worker-2", "api", "redis"))
                kind = self._hit(stack, name)
            self._done_faults[kind] += 1

    def _hit(self, stack: Stack, name: str) -> str:
        pid = stack.process(name).pid
        if pid is None:  # it has just been killed
            return "none"
        way = self._chance.choice(("kill", "kill", "stop", "freeze", "freeze and kill"))
        if way == "stop":
            os.kill(pid, signal.SIGTERM)
            return f"SIGTERM of {name}"
        if name != "api":
            self._lease_faults.append(time.time())
        if way != "kill":
            most = self._frozen_s if name.startswith("worker") else min(self._frozen_s, _FROZEN_OTHERS_S)
            _signal_group(pid, signal.SIGSTOP)
            time.sleep(self._chance.uniform(_FROZEN_LEAST_S, most))
            if way == "freeze":
                _signal_group(pid, signal.SIGCONT)
                return f"freeze of {name}"
        _signal_group(pid, signal.SIGKILL)
        return f"SIGKILL of {name}" if way == "kill" else f"freeze and SIGKILL of {name}"

    def _await_events(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and not all(self._told[one].ends for one in self._accepted):
            time.sleep(0.2)

    def _report(
        self,
        *,
        ended: Mapping[str, JobResource | None],
        again: Mapping[str, JobResource | None],
        masks: Mapping[str, tuple[bytes, bytes] | None],
        expected: list[tuple[bytes, bytes]],
        proxy: FaultProxy,
        lasted_s: float,
    ) -> Report:
        report = Report(
            jobs=len(self._accepted),
            faults=self._done_faults,
            s3_calls=proxy.calls,
            s3_faults=proxy.faults,
            lost=[],
            ended_twice=[],
            corrupt=[],
            failed=[],
            given_up=[],
            untold=[],
            recovery_s=0.0,
            lasted_s=lasted_s,
        )
        for job_id, image in self._accepted.items():
            job, told = ended[job_id], self._told[job_id]
            if job is None or not job.state.is_final:
                report.lost.append(job_id)
                continue
            later = again[job_id]
            has_changed = later is None or (later.state, later.attempt) != (job.state, job.attempt)
            if has_changed or not told.has_one_end(job.state):
                report.ended_twice.append(job_id)
            if not told.ends:
                report.untold.append(job_id)
            if job.state != "succeeded":
                code = job.error and job.error.code
                is_given_up = code == WorkerLost.code and self._bore_enough(told)
                (report.given_up if is_given_up else report.failed).append(f"{job_id} {job.state} {code}")
            elif masks[job_id] != expected[image]:
                report.corrupt.append(job_id)
            report.recovery_s = max([report.recovery_s, *(b - a for a, b in pairwise(told.starts))])
        return report

    def _bore_enough(self, told: Told) -> bool:
        """Whether as many faults as a job may lose workers to happened while it ran."""
        ends = [move.at for move in told.ends.values()]
        if not told.starts or not ends:
            return False
        borne = sum(told.starts[0] <= at <= max(ends) for at in self._lease_faults)
        return borne >= self._most_losses


def _end(stack: Stack, job_id: str) -> JobResource | None:
    """The job at its end; None: the service does not know it."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(MasklineError, httpx.HTTPError), Client(stack.url, stack.api_key) as client:
            job = client.get(job_id, wait=5)
            if job.state.is_final:
                return job
    return None


def _masks(stack: Stack, job_id: str) -> tuple[bytes, bytes] | None:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    answers = [
        httpx.get(f"{stack.url}/v1/jobs/{job_id}/{mask}.png", headers=headers, timeout=30, trust_env=False)
        for mask in ("categoryMask", "confidenceMask")
    ]
    return (answers[0].content, answers[1].content) if all(one.is_success for one in answers) else None


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _wipe(stack: Stack) -> str:
    deadline = time.monotonic() + _WIPE_PATIENCE_S
    while time.monotonic() < deadline:  # it may have been killed just now
        with suppress(redis.RedisError), _redis(stack) as server:
            server.flushall()
            return "wipe of redis"
        time.sleep(0.1)
    return "none"


def _redis(stack: Stack) -> redis.Redis:
    return redis.Redis.from_url(stack.environment["MASKLINE_REDIS_URL"])


def _s3_port(stack: Stack) -> int:
    command = stack.process("s3").command
    return int(command[command.index("--addr") + 1].rpartition(":")[2])


def measure(jobs: int = JOBS, faults: int = FAULTS, seeds: tuple[int, ...] = SEEDS) -> list[Figure]:
    """The figures of every seed together."""
    reports = []
    for seed in seeds:
        report = Campaign(jobs, faults, seed, settings={}, spread_s=_SPREAD_S, frozen_s=FROZEN_S).run()
        print(
            f"seed {seed}: {report.jobs} jobs in {report.lasted_s:.0f} s; {report.s3_faults} of "
            f"{report.s3_calls} calls of S3 failed; {json.dumps(report.faults)}",
            flush=True,
        )
        for name in ("lost", "ended_twice", "corrupt", "untold", "failed", "given_up"):
            if found := getattr(report, name):
                print(f"  {name}: {len(found)}: {', '.join(found[:5])}", flush=True)
        print(f"  longest recovery: {report.recovery_s:.1f} s", flush=True)
        reports.append(report)
    name = f"{jobs} jobs under {faults} faults, {len(seeds)} seeds"
    return [
        *(
            Figure(
                name=f"{name}: {what}",
                measured=sum(len(getattr(report, field_)) for report in reports),
                target=0,
                unit="",
                better="lower",
            )
            for what, field_ in (
                ("lost", "lost"),
                ("ended twice", "ended_twice"),
                ("corrupt masks", "corrupt"),
                ("ends that no webhook told", "untold"),
                ("failed for no reason that the faults give", "failed"),
            )
        ),
        Figure(
            name=f"{name}: longest recovery",
            measured=max(report.recovery_s for report in reports),
            target=RECOVERY_S,
            unit="s",
            better="lower",
        ),
    ]


if __name__ == "__main__":
    given = [int(one) for one in sys.argv[1:]]
    jobs, faults, *seeds = [*given, *(JOBS, FAULTS)[len(given) :]]
    print_figures(measure(jobs, faults, tuple(seeds) or SEEDS))
