"""Every setting, read from the environment once, at start.

A setting's environment variable is its name in capitals after ``MASKLINE_``. ``docs/operations.md`` holds
the same table; a test keeps the two together.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Secret,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails, from_json

from maskline.keys import Tenant
from maskline.limits import MaxQueued, SubmitBurst, SubmitRate, TenantLimits
from maskline.plain_words import Right, words
from maskline.webhook_secret import WebhookSecret
from maskline.wire import WireModel

ENVIRONMENT_PREFIX = "MASKLINE_"

Origin = Annotated[
    str,
    Field(pattern=r"^https?://[a-z0-9.\-\[\]:]+$"),
    Right("give SCHEME://HOST or SCHEME://HOST:PORT in small letters, without a path"),
]
Seconds = Annotated[float, Field(gt=0)]
Device = Annotated[
    str,
    Field(pattern=r"^(cpu|mps|cuda(:\d+)?)$"),
    Right("give cpu, mps, cuda, or one of several GPUs, such as cuda:1"),
]
"""As torch names it."""


class SettingsError(Exception):
    """The environment holds values that no setting takes; the message names each of them."""


class LabelStudio(WireModel):
    """A Label Studio, and what its files are asked for with."""

    url: Annotated[
        str,
        Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"),
        Right("give the http or https URL that Label Studio has for Maskline, without a query"),
    ]
    """Base URL."""
    token: SecretStr
    """Access token of one of its users (a legacy token)."""


class Settings(BaseModel):
    """How this process of Maskline is set up."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    redis_url: str = "redis://127.0.0.1:6379/0"
    """Redis (or Valkey) that holds the job records and the queue."""
    redis_prefix: str = "maskline:"
    """What every key in Redis begins with."""
    s3_endpoint: str | None = None
    """Endpoint of the S3 store; unset: AWS."""
    s3_public_endpoint: str | None = None
    """Endpoint that clients reach the S3 store under; unset: the API serves the artifacts itself."""
    s3_region: str = "us-east-1"
    """Region of the S3 store."""
    s3_bucket: str = "maskline"
    """Bucket for everything that Maskline keeps."""
    s3_access_key: str | None = None
    """Access key; unset: found the way boto3 finds it."""
    s3_secret_key: SecretStr | None = None
    """Secret key; unset: found the way boto3 finds it."""
    import_buckets: tuple[str, ...] = ()
    """Buckets that clients may name in `s3://` URIs, separated by commas."""
    export_buckets: tuple[str, ...] = ()
    """Buckets that clients may have results written to, separated by commas."""

    admin_key: Annotated[SecretStr, Field(min_length=16)] | None = None
    """API key that may do everything, the making of other keys included; at least 16 characters.
    Unset: no key is asked for, and the API listens on loopback alone."""
    url_secret: SecretStr | None = None
    """Signs the artifact URLs that the API serves itself; must be the same in all API processes."""
    webhook_secret: Secret[WebhookSecret] | None = None
    """Signs webhooks whose job gives no secret of its own: `whsec_` and base64 of 24 to 64 bytes."""
    outgoing_allow: tuple[str, ...] = ()
    """Hosts or networks, by commas, that image URLs and webhooks may reach although they are not public."""
    label_studios: dict[Tenant, LabelStudio] = {}
    """The Label Studio of some tenants, from which the API fetches their tasks' files, as JSON:
    `{"default": {"url": "http://label-studio:8080", "token": "…"}}`."""
    public_url: str | None = None
    """Base URL that clients reach the API under; unset: taken from each request."""

    cors_origins: tuple[Origin, ...] = ()
    """Origins whose pages may call the API from a browser, by commas, as `https://app.example.com`; unset:
    none."""

    default_model: str = "grabcut"
    """Model of requests that name none."""
    catalog_file: Path | None = None
    """YAML file with models of your own, over the shipped catalog."""
    worker_models: tuple[str, ...] = ()
    """Ids of the models that this worker offers, separated by commas; unset: all of the catalog that it
    can run."""
    worker_threads: Annotated[int, Field(ge=1, le=256)] = 8
    """Bulk jobs that a worker holds at once, and two more for interactive ones; they overlap fetching,
    decoding, rendering and storing."""
    weights_dir: Path = Path("~/.cache/maskline/weights")
    """Folder of downloaded weights."""
    device: Device | None = None
    """Where models run: `cpu`, `mps`, `cuda` or `cuda:1`; unset: the best that is there."""
    embedding_cache_bytes: Annotated[int, Field(ge=0)] = 512 * 1024 * 1024
    """Memory for each model's image embeddings, so that further prompts on an image cost little."""
    share_embeddings: bool = False
    """Whether workers leave each other image embeddings in the bucket, for up to two days."""
    image_cache_bytes: Annotated[int, Field(ge=0)] = 256 * 1024 * 1024
    """Memory for the pixels of the images that a worker had last, so that further jobs on one need not fetch
    and decode it."""
    max_loaded_models: Annotated[int, Field(ge=1)] = 4
    """Models that a worker keeps in memory; the one used least recently leaves first."""
    model_memory_bytes: Annotated[int, Field(ge=1)] | None = None
    """Memory for a worker's models together, by the size of their weights; beyond it the one used least
    recently leaves too. Unset: their number alone counts."""
    batch_wait: Annotated[float, Field(ge=0)] = 0.0
    """Seconds that a model waits for more images before it runs those that it has."""
    shutdown_grace: Seconds = 60.0
    """Seconds that a worker may take to finish what it holds after SIGTERM."""

    lease: Seconds = 10.0
    """Seconds without a sign of life after which a job is taken from its worker."""
    job_deadline: Seconds = 600.0
    """Seconds that one attempt may run."""
    max_attempts: Annotated[int, Field(ge=1)] = 3
    """Workers that a job may lose before it is failed."""
    sweep_interval: Seconds = 2.0
    """Seconds between two looks for lapsed, unpublished and expired jobs."""
    republish_after: Seconds = 10.0
    """Seconds that a job may wait before its message is published again; grows with the queue."""
    job_expiry: Seconds = 7 * 24 * 3600.0
    """Seconds after which a job and its artifacts are removed, where the request does not say."""
    orphan_age: Annotated[float, Field(ge=3600)] = 24 * 3600.0
    """Seconds after which objects in the bucket that belong to no job are removed; at least an hour."""
    idempotency_expiry: Seconds = 24 * 3600.0
    """Seconds for which an idempotency key is remembered."""
    url_expiry: Seconds = 900.0
    """Seconds for which an artifact's URL works."""
    max_queued: Annotated[int, Field(ge=1)] = 100_000
    """Jobs that may wait; more are refused with 429."""
    max_queued_per_tenant: MaxQueued | None = None
    """Jobs of one tenant that may wait; more are refused with 429. Unset: any number."""
    submit_rate: SubmitRate | None = None
    """Submissions a second that each tenant may make, on average; more are refused with 429. Unset: any
    number."""
    submit_burst: SubmitBurst = 20
    """Submissions that a tenant may make at once, where `MASKLINE_SUBMIT_RATE` is set."""
    tenant_limits: dict[Tenant, TenantLimits] = {}
    """Limits of some tenants, as JSON: `{"lab": {"submitRate": 5, "submitBurst": 50, "maxQueued": 9}}`;
    what is left out is as for all, `null` is any number."""
    dead_letter_expiry: Seconds = 30 * 24 * 3600.0
    """Seconds for which a webhook's event that could not be delivered is kept, to be replayed."""
    max_dead_letters: Annotated[int, Field(ge=1)] = 10_000
    """Such events that are kept of a tenant; beyond it the oldest go."""

    max_image_bytes: Annotated[int, Field(ge=1)] = 32 * 1024 * 1024
    """Largest image, in bytes."""
    max_image_pixels: Annotated[int, Field(ge=1)] = 100_000_000
    """Largest image, in pixels."""
    max_image_side: Annotated[int, Field(ge=1, le=65535)] = 30_000
    """Longest side of an image, in pixels."""
    max_wait: Seconds = 60.0
    """Longest wait that `Prefer: wait`, `?wait` and one stream of events give."""
    max_waiters: Annotated[int, Field(ge=1)] = 64
    """Requests that may wait at once in one API process; each takes a thread."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least of the levels that are logged."""
    log_format: Literal["json", "text"] = "json"
    """`json`: one object a line; `text`: for people."""

    @field_validator(
        "import_buckets",
        "export_buckets",
        "outgoing_allow",
        "cors_origins",
        "worker_models",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("tenant_limits", "label_studios", mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return from_json(value)
        except ValueError as error:
            raise ValueError(f"this is no JSON: {error}") from error

    @field_validator("import_buckets", "export_buckets")
    @classmethod
    def _leave_out_our_own(cls, buckets: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("s3_bucket") in buckets:
            raise ValueError("the bucket of MASKLINE_S3_BUCKET holds the jobs of all tenants; give others")
        return buckets

    def secrets(self) -> list[str]:
        """What must not be seen in a log."""
        values = (
            *(getattr(self, name) for name in type(self).model_fields),
            *(studio.token for studio in self.label_studios.values()),
        )
        return [value.get_secret_value() for value in values if isinstance(value, (Secret, SecretStr))]

    def limits_of(self, tenant: str) -> TenantLimits:
        """What a tenant may submit."""
        limits = TenantLimits(
            submit_rate=self.submit_rate,
            submit_burst=self.submit_burst,
            max_queued=self.max_queued_per_tenant,
        )
        own = self.tenant_limits.get(tenant)
        return limits if own is None else limits.model_copy(update=own.model_dump(exclude_unset=True))

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """The settings of a process.

        Raises:
            SettingsError: a variable of Maskline's has a bad value, or no setting has its name.
        """
        values = {
            name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
            for name, value in environ.items()
            if name.startswith(ENVIRONMENT_PREFIX)
            and name not in OTHER_VARIABLES
            and (value != "" or name == _ADMIN_KEY)  # an empty key by mistake must not open the service
        }
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError("\n".join(map(_told, error.errors()))) from error


def _told(fault: ErrorDetails) -> str:
    is_unknown = fault["type"] == "extra_forbidden"
    detail = "there is no such setting" if is_unknown else words(fault)
    return f"{ENVIRONMENT_PREFIX}{str(fault['loc'][0]).upper()}: {detail}"


_ADMIN_KEY = f"{ENVIRONMENT_PREFIX}ADMIN_KEY"
OTHER_VARIABLES = frozenset({"MASKLINE_URL", "MASKLINE_API_KEY", "MASKLINE_API_BIND"})
"""Variables of the client, the command and gunicorn, which share the prefix."""
