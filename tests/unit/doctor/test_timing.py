"""Settings that contradict each other."""

import pytest
from pydantic import SecretStr

from maskline.doctor.finding import Health
from maskline.doctor.timing import look
from maskline.settings import Settings

SOUND = {"MASKLINE_ADMIN_KEY": "mk_admin_of_the_tests", "MASKLINE_URL_SECRET": "of the tests"}


def test_the_defaults_fit_each_other() -> None:
    findings = list(look(Settings.from_env(SOUND)))
    assert {finding.health for finding in findings} == {Health.OK}, findings
    assert not any(finding.remedy for finding in findings)


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        ({"SWEEP_INTERVAL": "20"}, "recovery of lost jobs"),
        ({"LEASE": "60"}, "recovery of lost jobs"),
        ({"REPUBLISH_AFTER": "1"}, "recovery of lost jobs"),
        ({"JOB_DEADLINE": "5"}, "stopping a worker"),
        ({"SHUTDOWN_GRACE": "601"}, "stopping a worker"),
        ({"URL_EXPIRY": "700000"}, "expiry"),
        ({"IDEMPOTENCY_EXPIRY": "700000"}, "expiry"),
        ({"JOB_EXPIRY": "300", "URL_EXPIRY": "60", "IDEMPOTENCY_EXPIRY": "60"}, "expiry"),
        ({"MAX_IMAGE_SIDE": "5000"}, "image limits"),
        ({"ADMIN_KEY": None}, "keys"),
    ],
)
def test_each_contradiction_is_told(wrong: dict[str, str | None], check: str) -> None:
    given = {f"MASKLINE_{name}": value for name, value in wrong.items()}
    environ = {name: value for name, value in (SOUND | given).items() if value is not None}
    [told] = [finding for finding in look(Settings.from_env(environ)) if finding.health is not Health.OK]
    assert (told.check, told.health) == (check, Health.WARNING)
    assert "MASKLINE_" in (told.remedy or "")


def test_what_the_api_would_not_start_without_is_told() -> None:
    settings = Settings.from_env({"MASKLINE_ADMIN_KEY": "mk_admin_of_the_tests"})
    [told] = [finding for finding in look(settings) if finding.health is not Health.OK]
    assert (told.check, told.health) == ("secret of artifact URLs", Health.FAILED)
    assert "MASKLINE_URL_SECRET" in (told.remedy or "")
    with_keys = settings.model_copy(update={"s3_secret_key": SecretStr("k")})
    assert {finding.health for finding in look(with_keys)} == {Health.OK}
