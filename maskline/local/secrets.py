"""What only this stack knows; made once, and kept beside its data."""

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Secrets:
    """The keys of one stack."""

    s3_access_key: str = field(default_factory=lambda: secrets.token_hex(10))
    s3_secret_key: str = field(default_factory=lambda: secrets.token_hex(20))
    admin_key: str = field(default_factory=lambda: f"mk_admin_{secrets.token_hex(20)}")
    url_secret: str = field(default_factory=lambda: secrets.token_hex(32))
    webhook_secret: str = field(
        default_factory=lambda: "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    )


def load_secrets(file: Path) -> Secrets:
    """The secrets in ``file``; new ones are written there if it does not exist."""
    if file.exists():
        return Secrets(**json.loads(file.read_text("utf-8")))
    made = Secrets()
    write_private(file, json.dumps(asdict(made), indent=2))
    return made


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read; it is never there by half."""
    partial = file.with_suffix(".partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    partial.replace(file)
