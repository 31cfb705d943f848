"""What is deployed: containers that may do no more than they must, and dependencies that are looked up."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OURS = {"api", "worker", "worker-gpu"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"])


def test_no_container_gains_what_it_does_not_need(services: dict[str, Any]) -> None:
    assert services.keys() >= OURS
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert "ports" not in service or name == "api", "only the API is for others"


@pytest.mark.parametrize("name", [*sorted(OURS), "redis"])
def test_a_container_can_not_write_to_its_root(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert "cap_add" not in service
    assert service.get("tmpfs") == (None if name == "redis" else ["/tmp"])


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_images_run_as_a_user_of_their_own(services: dict[str, Any], name: str) -> None:
    lines = (ROOT / services[name]["build"]["dockerfile"]).read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER maskline"]
    last_run = max(i for i, line in enumerate(lines) if line.startswith("RUN "))
    assert lines.index("USER maskline") > last_run, "nothing is built as that user"
    assert services[name].get("user") is None


def report(**vulnerable: str) -> dict[str, Any]:
    bugs = [{"id": bug, "fix_versions": []} for bug in vulnerable.values()]
    return {
        "dependencies": [
            {"name": "flask", "version": "3", "vulns": bugs},
            {"name": "local", "skip_reason": "not found"},
        ]
    }


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (None, 0, "NOT AUDITED: the advisory service"),
        ({"dependencies": []}, 0, "NOT AUDITED"),
        ({"dependencies": [{"name": "flask", "skip_reason": "not found"}]}, 0, "NOT AUDITED"),
        (report(), 0, "^1 packages audited, 0 vulnerabilities known\nNOT AUDITED, .*: local"),
        (report(flask="CVE-1"), 1, "(?s)1 vulnerabilities known.*flask 3: CVE-1; mended in none"),
    ],
)
def test_an_audit_tells_what_it_could_not_look_up(found: Any, status: int, words: str) -> None:
    verdict = runpy.run_path(str(ROOT / ".ci" / "audit.py"))["verdict"]
    code, told = verdict(found)
    assert code == status
    assert re.search(words, told), told
