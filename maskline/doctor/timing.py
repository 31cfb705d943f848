"""Settings that contradict each other.

Messages are not acknowledged, so there is no visibility timeout to hold against the longest job; what brings
a job back is its lease, the sweeper's interval, and the wait before a message is published again.
"""

from collections.abc import Iterator

from maskline.doctor.finding import Finding
from maskline.settings import Settings

_MOST_RECOVERY_S = 30.0  # what ``docs/reliability.md`` promises of a job whose worker died


def look(settings: Settings) -> Iterator[Finding]:
    """Findings about the settings alone; nothing is asked."""
    yield _recovery(settings)
    yield _stopping(settings)
    yield _lives(settings)
    yield _limits(settings)
    yield _door(settings)
    yield _signing(settings)


def _recovery(settings: Settings) -> Finding:
    check = "recovery of lost jobs"
    after_death_s = settings.lease + settings.sweep_interval
    if settings.sweep_interval >= settings.lease:
        return Finding.warning(
            check,
            f"the sweeper looks every {settings.sweep_interval:g} s, which is no more often than a lease of "
            f"{settings.lease:g} s lapses",
            "set MASKLINE_SWEEP_INTERVAL well below MASKLINE_LEASE",
        )
    if after_death_s > _MOST_RECOVERY_S:
        return Finding.warning(
            check,
            f"a job whose worker died waits up to {after_death_s:g} s; {_MOST_RECOVERY_S:g} s are promised",
            "lower MASKLINE_LEASE or MASKLINE_SWEEP_INTERVAL",
        )
    if settings.republish_after < settings.sweep_interval:
        return Finding.warning(
            check,
            f"messages are to be published again after {settings.republish_after:g} s, but the sweeper looks "
            f"every {settings.sweep_interval:g} s",
            "set MASKLINE_REPUBLISH_AFTER to several times MASKLINE_SWEEP_INTERVAL",
        )
    return Finding.ok(
        check,
        f"up to {after_death_s:g} s after its worker died, {settings.republish_after:g} s after its message "
        "was lost (messages are not acknowledged: no visibility timeout)",
    )


def _stopping(settings: Settings) -> Finding:
    check = "stopping a worker"
    if settings.job_deadline < settings.lease:
        return Finding.warning(
            check,
            f"an attempt may run {settings.job_deadline:g} s, less than a lease of {settings.lease:g} s",
            "raise MASKLINE_JOB_DEADLINE above MASKLINE_LEASE",
        )
    if settings.shutdown_grace > settings.job_deadline:
        return Finding.warning(
            check,
            f"a worker may take {settings.shutdown_grace:g} s to stop, but no job runs longer than "
            f"{settings.job_deadline:g} s",
            "lower MASKLINE_SHUTDOWN_GRACE to MASKLINE_JOB_DEADLINE or less",
        )
    return Finding.ok(
        check,
        f"it finishes what ends within {settings.shutdown_grace:g} s and gives the rest back; one attempt "
        f"may run {settings.job_deadline:g} s",
    )


def _lives(settings: Settings) -> Finding:
    check = "expiry"
    for name, life_s in (
        ("MASKLINE_URL_EXPIRY", settings.url_expiry),
        ("MASKLINE_IDEMPOTENCY_EXPIRY", settings.idempotency_expiry),
    ):
        if life_s > settings.job_expiry:
            return Finding.warning(
                check,
                f"{name} is {life_s:g} s, longer than a job is kept: {settings.job_expiry:g} s",
                f"lower {name}, or raise MASKLINE_JOB_EXPIRY",
            )
    if settings.job_expiry < settings.job_deadline:
        return Finding.warning(
            check,
            f"jobs expire after {settings.job_expiry:g} s, an attempt may run {settings.job_deadline:g} s",
            "raise MASKLINE_JOB_EXPIRY above MASKLINE_JOB_DEADLINE",
        )
    return Finding.ok(check, f"jobs and their artifacts are kept for {settings.job_expiry / 86400:.3g} days")


def _limits(settings: Settings) -> Finding:
    check = "image limits"
    if settings.max_image_side**2 < settings.max_image_pixels:
        return Finding.warning(
            check,
            f"no image of sides up to {settings.max_image_side} has {settings.max_image_pixels} pixels",
            "raise MASKLINE_MAX_IMAGE_SIDE, or lower MASKLINE_MAX_IMAGE_PIXELS",
        )
    return Finding.ok(
        check,
        f"{settings.max_image_bytes} bytes, {settings.max_image_pixels} pixels, sides of "
        f"{settings.max_image_side}",
    )


def _door(settings: Settings) -> Finding:
    check = "keys"
    if settings.admin_key is None:
        return Finding.warning(
            check,
            "no key is asked for: the API listens on loopback alone; all there are the administrator",
            "set MASKLINE_ADMIN_KEY to a long random text, and make keys with maskline keys create",
        )
    return Finding.ok(check, "callers need a key")


def _signing(settings: Settings) -> Finding:
    check = "secret of artifact URLs"
    if settings.url_secret is None and settings.s3_secret_key is None:
        return Finding.failed(
            check,
            "there is none, and no MASKLINE_S3_SECRET_KEY to make one of: the API does not start",
            "set MASKLINE_URL_SECRET to a long random text, the same for all API processes",
        )
    return Finding.ok(check, "given" if settings.url_secret else "made of MASKLINE_S3_SECRET_KEY")
