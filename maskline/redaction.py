"""Secrets out of log lines: by what they are, where this process knows them, and by what they look like."""

import json
import re
from collections.abc import Callable, Iterable

Redact = Callable[[str], str]

_HIDDEN = "[hidden]"
_LEAST = 8  # characters; a shorter secret is found in every other line
_BEGIN = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"  # of a word; in a line of JSON a line break ends in a letter
_LEADS = (
    _BEGIN + r"mk_[0-9a-f]{16}_",  # an API key; its id may stay
    _BEGIN + r"whsec_",
    _BEGIN + r"(?i:bearer:? +)",
    _BEGIN + r"(?i:(?:api[_-]?key|x-amz-(?:signature|credential|security-token)|signature|password|secret)"
    r"[\"'\\]*\s*(?:[=:]|%3d)\s*[\"'\\]*)",
    r"://[^/\s:@\"']*:(?=[^/\s@\"']+@)",  # a password in a URL
)
_VALUE = r"[^\s\"'\\&,;@)}\]]+"
_PATTERN = f"({'|'.join(_LEADS)}){_VALUE}"


def redactor(secrets: Iterable[str] = ()) -> Redact:
    """A function that takes these secrets, and whatever looks like one, out of a line."""
    known = [secret for secret in secrets if len(secret) >= _LEAST]
    known += [json.dumps(secret)[1:-1] for secret in known]  # as it stands in a line of JSON
    # The longest first, for one may begin with another.
    literal = "|".join(re.escape(one) for one in sorted(set(known), key=len, reverse=True))
    pattern = re.compile(f"{literal}|{_PATTERN}" if literal else _PATTERN)

    def redact(line: str) -> str:
        return pattern.sub(lambda found: (found[1] or "") + _HIDDEN, line)

    return redact
