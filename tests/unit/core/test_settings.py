"""The settings: read strictly, and documented in full."""

from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from maskline.limits import TenantLimits
from maskline.settings import ENVIRONMENT_PREFIX, Settings, SettingsError

ROOT = Path(__file__).parents[3]


def row(name: str) -> str:
    """A setting's row in the table of ``docs/operations.md``."""
    setting = Settings.model_fields[name]
    assert setting.default is not PydanticUndefined
    default = setting.default
    shown = f"`{default:.12g}`" if isinstance(default, float) else f"`{default}`"
    if default is None or default == ():
        shown = ""
    meaning = " ".join((setting.description or "").split())
    return f"| `{ENVIRONMENT_PREFIX}{name.upper()}` | {shown} | {meaning} |"


def test_every_setting_is_in_the_table_as_it_is() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith(f"| `{ENVIRONMENT_PREFIX}")]
    assert rows == [row(name) for name in Settings.model_fields]


def test_the_environment_is_read_and_the_rest_left_alone() -> None:
    settings = Settings.from_env(
        {
            "MASKLINE_LEASE": "7.5",
            "MASKLINE_IMPORT_BUCKETS": "a, b",
            "MASKLINE_S3_ENDPOINT": "",
            "MASKLINE_URL": "http://client.example",
            "MASKLINE_ADMIN_KEY": "k" * 16,
            "PATH": "/bin",
        }
    )
    assert (settings.lease, settings.import_buckets, settings.s3_endpoint) == (7.5, ("a", "b"), None)
    assert isinstance(settings.admin_key, SecretStr)
    assert "k" * 16 not in repr(settings)


def test_a_tenant_s_own_limits_are_laid_over_those_of_all() -> None:
    own = '{"lab": {"submitRate": 5, "maxQueued": null}, "t2": {}}'
    settings = Settings.from_env(
        {"MASKLINE_SUBMIT_BURST": "7", "MASKLINE_MAX_QUEUED_PER_TENANT": "9", "MASKLINE_TENANT_LIMITS": own}
    )
    assert settings.limits_of("lab") == TenantLimits(submit_rate=5, submit_burst=7, max_queued=None)
    for tenant in ("t2", "default"):
        assert settings.limits_of(tenant) == TenantLimits(submit_burst=7, max_queued=9)
    assert Settings().limits_of("lab").are_none


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"MASKLINE_LEASE": "soon"}, "MASKLINE_LEASE: .*number"),
        ({"MASKLINE_LEASE": "0", "MASKLINE_MAX_WAIT": "x"}, "MASKLINE_LEASE: .*\nMASKLINE_MAX_WAIT: "),
        ({"MASKLINE_LEESE": "1"}, "MASKLINE_LEESE: there is no such setting"),
        ({"MASKLINE_ADMIN_KEY": ""}, "MASKLINE_ADMIN_KEY: .*16"),
        ({"MASKLINE_SUBMIT_RATE": "0"}, "MASKLINE_SUBMIT_RATE: .*greater than 0"),
        ({"MASKLINE_TENANT_LIMITS": "{"}, "MASKLINE_TENANT_LIMITS: .*JSON"),
        ({"MASKLINE_TENANT_LIMITS": '{"lab": {"rate": 1}}'}, "MASKLINE_TENANT_LIMITS: "),
        ({"MASKLINE_CORS_ORIGINS": "*"}, "MASKLINE_CORS_ORIGINS: .*SCHEME://HOST"),
        ({"MASKLINE_CORS_ORIGINS": "https://a.example/"}, "MASKLINE_CORS_ORIGINS: .*without a path"),
        ({"MASKLINE_IMPORT_BUCKETS": "a,maskline"}, "MASKLINE_IMPORT_BUCKETS: .*all tenants"),
        (
            {"MASKLINE_S3_BUCKET": "b", "MASKLINE_EXPORT_BUCKETS": "b"},
            "MASKLINE_EXPORT_BUCKETS: .*all tenants",
        ),
        ({"MASKLINE_WEBHOOK_SECRET": "s" * 40}, "MASKLINE_WEBHOOK_SECRET: give whsec_"),
        ({"MASKLINE_WEBHOOK_SECRET": "whsec_" + "B" * 33}, "MASKLINE_WEBHOOK_SECRET: .*base64"),
        ({"MASKLINE_LOG_LEVEL": "debug"}, "MASKLINE_LOG_LEVEL: .*'DEBUG'"),
    ],
)
def test_a_wrong_setting_is_named(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings.from_env(environ)


def test_secrets_are_those_that_are_set() -> None:
    signing = "whsec_" + "B" * 32
    settings = Settings.from_env(
        {
            "MASKLINE_ADMIN_KEY": "k" * 16,
            "MASKLINE_URL_SECRET": "u" * 16,
            "MASKLINE_WEBHOOK_SECRET": signing,
        }
    )
    assert settings.secrets() == ["k" * 16, "u" * 16, signing]
    assert signing not in repr(settings)
