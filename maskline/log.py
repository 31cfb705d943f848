"""Structured logs: one JSON object a line, or text for people; every line about a job has its id."""

import logging
import sys
from collections.abc import Iterable

import structlog

from maskline.redaction import Redact, redactor

# Without the frames' variables: these hold keys and secrets.
_TRACEBACKS = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


class RedactedFormatter(logging.Formatter):
    """Another formatter's lines without secrets."""

    def __init__(self, inner: logging.Formatter, redact: Redact) -> None:
        """``redact``: takes secrets out of a line."""
        super().__init__()
        self._inner = inner
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return self._redact(self._inner.format(record))


def configure_logging(level: str, log_format: str, secrets: Iterable[str] = ()) -> None:
    """Send the logs of this process, the libraries' own included, to standard error.

    Our own lines do not pass through ``logging``: that would cost a poll a tenth of its time.

    Args:
        level: the least that is logged.
        log_format: ``json`` or ``text``.
        secrets: what must not be seen in any line, beside what looks like a secret.
    """
    redact = redactor(secrets)
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[structlog.types.Processor] = (
        [structlog.processors.ExceptionRenderer(_TRACEBACKS), structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[*shared, *rendering, lambda _, __, line: redact(str(line))],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )
    handler.setFormatter(RedactedFormatter(formatter, redact))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in (
        "botocore",
        "urllib3",
        "boto3",
        "s3transfer",
        "httpx",
        "celery.app.trace",
        "celery.worker.strategy",
    ):
        logging.getLogger(chatty).setLevel(logging.WARNING)
