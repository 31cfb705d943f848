"""Look the pinned dependencies up among the known vulnerabilities; ``make audit``.

A vulnerability fails it. An advisory service that can't be reached does not, but it is told: pip-audit itself
says "no known vulnerabilities found" where the service knows none of the packages, as a mirror does.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "build" / "audit.json"


def verdict(report: dict[str, Any] | None) -> tuple[int, str]:
    """The exit status and what to tell; ``report``: pip-audit's, None if it made none."""
    packages = (report or {}).get("dependencies", ())
    looked_up = [one for one in packages if "skip_reason" not in one]
    if not looked_up:
        return 0, "NOT AUDITED: the advisory service can't be reached, or knows none of the packages"
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    found = [
        f"{one['name']} {one['version']}: {bug['id']}; mended in {', '.join(bug['fix_versions']) or 'none'}"
        for one in looked_up
        for bug in one["vulns"]
    ]
    told = [f"{len(looked_up)} packages audited, {len(found)} vulnerabilities known", *found]
    if skipped:
        told.append(f"NOT AUDITED, for the service does not know them: {', '.join(skipped)}")
    return int(bool(found)), "\n".join(told)


def main() -> None:
    """Audit ``constraints.txt``."""
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.unlink(missing_ok=True)
    options = ["--no-deps", "--disable-pip", "--progress-spinner=off", "--format=json", f"--output={REPORT}"]
    command = [sys.executable, "-m", "pip_audit", *options, f"--requirement={ROOT / 'constraints.txt'}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (ours)
    report = json.loads(REPORT.read_text()) if REPORT.exists() else None
    status, told = verdict(report)
    print(told)
    if report is None:
        print(ended.stderr[-2000:], file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
