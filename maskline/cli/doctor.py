"""``maskline doctor``: is the service well, and if not, what to do."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import typer
from rich.text import Text

from maskline.cli.context import SERVICE_FILE, Json, print_json, remark, results
from maskline.local import StackError

_COLORS = {"ok": "green", "warning": "yellow", "failed": "red"}


def command(as_json: Json = False) -> None:
    """Check Redis, S3, workers, models and settings; say what is wrong, and how to mend it.

    The service is that of the MASKLINE_… variables, as its processes have them; or, where these name no
    Redis, the one that `maskline up` runs in this folder.
    """
    try:
        from maskline.doctor import Health, examine  # noqa: PLC0415 (the drivers are not in every installation)
    except ModuleNotFoundError as error:
        raise StackError(
            f"{error.name} is not installed; get it with: pip install 'maskline[api]'"
        ) from error
    environ, data_dir = _service(os.environ)
    findings = []
    for finding in examine(environ, data_dir):
        findings.append(finding)
        if not as_json:
            results.print(Text(f"{finding.health:<8}", _COLORS[finding.health]), finding.check, end=": ")
            results.print(finding.detail, markup=False, highlight=False, soft_wrap=True)
            if finding.remedy:
                results.print(
                    f"         to mend it: {finding.remedy}", markup=False, highlight=False, soft_wrap=True
                )
    if as_json:
        print_json(findings)
    counts = Counter(finding.health for finding in findings)
    remark(", ".join(f"{counts[health]} {health}" for health in Health))
    if counts[Health.FAILED]:
        raise typer.Exit(1)


def _service(environ: Mapping[str, str]) -> tuple[Mapping[str, str], Path | None]:
    """The service's variables; and where its data are, if it is the stack of this folder."""
    if "MASKLINE_REDIS_URL" in environ or not SERVICE_FILE.exists():
        return environ, None
    try:
        stack = json.loads(SERVICE_FILE.read_text("utf-8"))["environment"]
    except (ValueError, KeyError) as error:
        raise OSError(f"{SERVICE_FILE} is damaged, or of an older stack; start maskline up anew") from error
    return {**environ, **stack}, SERVICE_FILE.parent
