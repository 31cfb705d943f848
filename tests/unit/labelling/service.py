"""The API in this process over memory doubles, with a worker that works after each request."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from api.application import create_app
from api.services import Services, Waiters
from maskline.adapters.memory import MemoryKeyStore, MemorySubmissionGate
from maskline.adapters.memory_webhooks import MemoryOutbox
from maskline.batch_artifacts import pack_key, part_key
from maskline.batch_items import BatchItem, PackedImage
from maskline.batches import Batch
from maskline.client import Client
from maskline.settings import Settings
from tests.factories import make_card
from tests.unit.worker.bulk.world import World, models_of
from worker.bulk.exporter import BatchExporter
from worker.fetching import fetcher

KEY = "mk_key_of_the_tests"


def no_url(url: str, most: int) -> bytes:
    raise AssertionError(f"{url} was asked for")


class Impatient(threading.Event):
    """An event for which nobody waits."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


@dataclass
class Service(httpx.BaseTransport):
    """What a client talks to."""

    world: World = field(default_factory=World)
    before: Callable[[httpx.Request], object] = lambda request: None
    """Called with each request before it is answered; may raise."""
    after: Callable[[httpx.Request], object] = lambda request: None
    """The same, once it has had its effect."""
    works: bool = True
    """Whether a worker works."""
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        world, outbox = self.world, MemoryOutbox()
        settings = Settings.from_env({"MASKLINE_ADMIN_KEY": KEY, "MASKLINE_IMPORT_BUCKETS": "imports"})
        services = Services(
            settings=settings,
            jobs=world.jobs,
            artifacts=world.artifacts,
            queue=world.queue,
            models=world.directory,
            keys=MemoryKeyStore(),
            batches=world.batches,
            endpoints=outbox.endpoints,
            outbox=outbox,
            gate=MemorySubmissionGate(world.jobs),
            waiters=Waiters(settings.max_waiters),
            url_secret="secret of the tests",
        )
        self._inner = httpx.WSGITransport(create_app(services))
        self._lock = threading.Lock()

    def client(self) -> Client:
        return Client("http://maskline.test", KEY, transport=self, sleep=lambda seconds: None)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            self.requests.append(f"{request.method} {request.url.path}")
            self.before(request)
            answer = self._inner.handle_request(request)
            content = answer.read()
            self.after(request)
            if self.works:
                self._work()
        return httpx.Response(answer.status_code, headers=answer.headers, content=content)

    def _work(self) -> None:
        self.world.leader().look()
        self.world.runner().run("grabcut")
        exports = self.world.queue.exports
        while exports:
            self.exporter().export(*exports.pop())

    def exporter(self) -> BatchExporter:
        return BatchExporter(
            batches=self.world.batches,
            house=self.world.jobs,
            artifacts=self.world.artifacts,
            fetch=fetcher(self.world.artifacts, no_url, 10**6),
            models=models_of(make_card()),
            max_image_bytes=10**6,
            import_buckets=("imports",),
        )

    # -- what came

    def batch(self) -> Batch:
        [batch] = self.world.batches.all("default")
        return batch

    def items(self) -> list[BatchItem]:
        """All that were uploaded."""
        batch = self.batch()
        lines = [
            line
            for number in range(1, batch.parts + 1)
            for line in self.world.artifacts.get(part_key(batch.id, number)).splitlines()
        ]
        return [BatchItem.model_validate_json(line) for line in lines]

    def image(self, item: BatchItem) -> bytes:
        """The bytes of an item's image in its pack."""
        place = item.image
        assert isinstance(place, PackedImage)
        pack = self.world.artifacts.get(pack_key(self.batch().id, place.pack))
        return pack[place.offset : place.offset + place.length]
