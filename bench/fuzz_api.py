"""``python -m bench.fuzz_api --cases 50000``: requests of every shape to every route of a service.

schemathesis makes them of the OpenAPI document, half as it says and half against it. No answer may be a 5xx,
and each must be one that the document tells of: its status, its media type and its body.
"""

import argparse
import base64
import random
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.intake import JobParameters
from api.protocols.native import JOBS_PATH
from bench.figure import Figure, print_figures
from bench.hostile_images import small_images
from maskline import Client
from maskline.local import Stack

schemathesis.serializer.alias("application/jsonl", "application/octet-stream")  # it knows none of its own
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ENVIRONMENT = {
    "MASKLINE_WORKER_MODELS": "grabcut",
    "MASKLINE_MAX_QUEUED": "1000000",
    "MASKLINE_MAX_WAIT": "20",
    "MASKLINE_MAX_IMAGE_PIXELS": "1000000",
}
_ROUND = 300  # cases of one route and kind before it is the others' turn
_TIMEOUT_S = 60.0
_EXAMPLES = 5  # answers that are shown of each finding
_SENSIBLE = 0.75  # how often a name is that of something that is there, and an image is one
_THERE = {
    "project": "p",
    "location": "us-central1",
    "publisher": "google",
    **dict.fromkeys(("model", "model_id", "endpoint", "dataset_id", "version_id"), "grabcut"),
}
_IMAGES = frozenset({"content", "value", "inputs", "data"})  # fields that hold an image in base64
_IMAGE_PARTS = frozenset({"image", "file"})  # of multipart bodies
_OF_IMAGE_BODIES = frozenset(JobParameters.model_json_schema()["properties"])
_ELSEWHERE = re.compile(r"(?i)(https?://)[^\s/]*")


@dataclass
class Campaign:
    """What was sent, and what came of it."""

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    server_errors: int = 0
    outside_schema: int = 0
    findings: dict[str, list[str]] = field(default_factory=dict)
    """What was wrong, by route, status and kind; with some of the requests."""

    def figures(self) -> list[Figure]:
        """The two targets."""
        name = f"API, {self.cases:,} cases"
        return [
            Figure(
                name=f"{name}: 5xx", measured=self.server_errors, target=0, unit="answers", better="lower"
            ),
            Figure(
                name=f"{name}: outside the schema",
                measured=self.outside_schema,
                target=0,
                unit="answers",
                better="lower",
            ),
        ]


class ApiFuzzer:
    """Sends what schemathesis makes up to one service."""

    def __init__(self, stack: Stack) -> None:
        """``stack``: runs with ``ENVIRONMENT``."""
        self._url = stack.url
        self._client = Client(stack.url, stack.api_key)
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {stack.api_key}"
        self._images = small_images()
        self._ended = self._client.wait(self._client.submit(self._images[0]).id).id
        known = st.sampled_from(self._images)
        schemathesis.openapi.format("binary", known | st.binary(max_size=200))
        schemathesis.openapi.media_type("image/*", known | st.binary(max_size=200))
        self._schema = schemathesis.openapi.from_url(f"{stack.url}/openapi.json")
        self.campaign = Campaign()

    def close(self) -> None:
        """Let the connections go."""
        self._session.close()
        self._client.close()

    def run(self, cases: int, start: int = 0) -> Campaign:
        """Send this many cases, the routes in turn; ``start``: the same one gives the same cases."""
        operations = [_described(found) for found in self._schema.get_all_operations()]
        turns = [(operation, mode) for operation in operations for mode in GenerationMode]
        number = start
        while self.campaign.cases < cases:
            for operation, mode in turns:
                number += 1
                size = min(_ROUND, max(1, cases // len(turns)), cases - self.campaign.cases)
                if size > 0:
                    self._take_turn(operation, mode, size, number)
            print(f"  {self.campaign.cases} cases, {dict(self.campaign.statuses)}", flush=True)
        return self.campaign

    def _take_turn(self, operation: Any, mode: GenerationMode, size: int, number: int) -> None:
        chance = random.Random(number)

        @seed(number)
        @settings(
            max_examples=size,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            self._send(case, chance)

        with suppress(Unsatisfiable):  # a route without parameters has nothing that goes against it
            send()

    def _send(self, case: Any, chance: random.Random) -> None:
        self._make_sensible(case, chance)
        answer = case.call(session=self._session, base_url=self._url, timeout=_TIMEOUT_S)
        self.campaign.cases += 1
        self.campaign.statuses[answer.status_code] += 1
        try:
            case.validate_response(answer, checks=CHECKS)
        except FailureGroup as group:
            self._note(case, answer, group)

    def _make_sensible(self, case: Any, chance: random.Random) -> None:
        """Name what is there and send real images in most cases, or all would be refused at the door; and let
        nobody be called outside this machine."""
        there = {**_THERE, "job_id": self._job_for(case)} if "job_id" in case.path_parameters else _THERE
        case.path_parameters = {
            name: there[name] if name in there and chance.random() < _SENSIBLE else value
            for name, value in case.path_parameters.items()
        }
        is_of_image = str(case.media_type).startswith("image/")
        if not is_of_image and chance.random() < _SENSIBLE:
            case.query = {name: value for name, value in case.query.items() if name not in _OF_IMAGE_BODIES}
        if case.operation.path == JOBS_PATH and chance.random() < _SENSIBLE:
            case.query, case.body = _simpler(case.query, chance), _simpler(case.body, chance)
        case.query = self._sensible(case.query, chance)
        case.body = self._sensible(case.body, chance)
        if case.media_type == "multipart/form-data" and isinstance(case.body, dict):
            for part in _IMAGE_PARTS & set(case.body):
                case.body[part] = chance.choice(self._images)

    def _job_for(self, case: Any) -> str:
        if case.method.upper() == "DELETE":
            return self._client.submit(self._images[0]).id
        return self._ended

    def _sensible(self, value: Any, chance: random.Random, name: str = "") -> Any:
        if isinstance(value, list):
            return [self._sensible(part, chance, name) for part in value]
        is_sensible = chance.random() < _SENSIBLE
        if isinstance(value, dict):
            if is_sensible and name == "image" and "value" not in value:
                return {"content": self._image(chance)}
            return {key: self._sensible(part, chance, key) for key, part in value.items()}
        if not isinstance(value, str):
            return value
        if is_sensible and name in _IMAGES:
            return self._image(chance)
        is_known = is_sensible and name in _THERE
        return _THERE[name] if is_known else _ELSEWHERE.sub(r"\g<1>127.0.0.1:9", value)

    def _image(self, chance: random.Random) -> str:
        return base64.b64encode(chance.choice(self._images)).decode()

    def _note(self, case: Any, answer: Any, group: FailureGroup) -> None:
        if answer.status_code >= 500:
            self.campaign.server_errors += 1
        if any(type(one).__name__ != "ServerError" for one in group.exceptions):
            self.campaign.outside_schema += 1
        kinds = ", ".join(sorted({type(one).__name__ for one in group.exceptions}))
        seen = self.campaign.findings.setdefault(f"{case.operation.label} {answer.status_code} {kinds}", [])
        if len(seen) < _EXAMPLES:
            print(f"  {case.operation.label} {answer.status_code}: {kinds}", flush=True)
            told = "; ".join(str(one)[:600] for one in group.exceptions)
            seen.append(f"{case.as_curl_command()[:1500]}\n    {told}\n    {answer.text[:500]}")


def _described(found: Any) -> Any:
    if not isinstance(found, Ok):
        raise RuntimeError(f"schemathesis can't read the description of a route: {found.err()}")
    return found.ok()


def _simpler(fields: Any, chance: random.Random) -> Any:
    """One of the fields, and the image: where all are made up, one of them is always wrong."""
    if not isinstance(fields, dict):
        return fields
    kept = {chance.choice(sorted(fields)), "image"} if fields else set()
    return {name: value for name, value in fields.items() if name in kept}


def main() -> None:
    """Run a campaign, and print its findings and its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        stack = Stack(Path(folder), environment=ENVIRONMENT)
        stack.on_restart = lambda name: print(f"  {name} ended", flush=True)
        with stack:
            fuzzer = ApiFuzzer(stack)
            campaign = fuzzer.run(options.cases, options.seed)
            fuzzer.close()
    for finding, examples in sorted(campaign.findings.items()):
        print(f"\n{finding}")
        for example in examples:
            print(f"  {example}")
    print_figures(campaign.figures())


if __name__ == "__main__":
    main()
