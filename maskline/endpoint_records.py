"""Webhook endpoints in both places: the store that events look in, and the bucket, which outlives it.

The store comes first and decides between changes at the same time. Each version has a key of its own in the
bucket, for keys are written once; the latest one counts, and the others go.
"""

import logging
from collections.abc import Callable
from contextlib import suppress

from pydantic import ValidationError

from maskline.errors import (
    ArtifactNotFound,
    CapacityError,
    DependencyError,
    TooManyWebhooks,
    WebhookNotFound,
)
from maskline.ports import ArtifactStore, EndpointStore
from maskline.webhooks import ENDPOINTS, Endpoint, endpoint_key, endpoint_prefix

logger = logging.getLogger(__name__)

_JSON = "application/json"
_CHANGES = 5  # times that a change is made anew because of others


class EndpointRecords:
    """The endpoints of all tenants. Every method raises ``DependencyError`` when Redis or S3 does not answer;
    calling again then finishes it."""

    def __init__(self, store: EndpointStore, artifacts: ArtifactStore) -> None:
        """``store``: where events look; ``artifacts``: what it is rebuilt from."""
        self._store = store
        self._artifacts = artifacts

    def get(self, tenant: str, endpoint_id: str) -> Endpoint:
        """The tenant's endpoint.

        Raises:
            WebhookNotFound: there is none.
        """
        endpoint = self._store.find(tenant, endpoint_id)
        if endpoint is None:
            raise WebhookNotFound(f"there is no webhook {endpoint_id!r}")
        return endpoint

    def add(self, endpoint: Endpoint) -> None:
        """Keep a new endpoint; nothing is kept of one for which this raises.

        Raises:
            TooManyWebhooks: the tenant has as many as it may.
        """
        self._store.save(endpoint, over=0)
        try:
            self._put(endpoint)
        except DependencyError:
            with suppress(DependencyError):
                self._store.remove(endpoint.tenant, endpoint.id)
                self._remove_objects(endpoint.id)  # the bucket may have taken it and not said so
            raise

    def change(self, tenant: str, endpoint_id: str, change: Callable[[Endpoint], Endpoint]) -> Endpoint:
        """The endpoint as ``change`` makes it of the one that is there.

        Raises:
            WebhookNotFound: there is none.
            CapacityError: others change it all the time.
        """
        for _ in range(_CHANGES):
            known = self.get(tenant, endpoint_id)
            changed = change(known).model_copy(update={"version": known.version + 1})
            if self._store.save(changed, over=known.version):
                self._put_or_undo(changed, known)
                return changed
        raise CapacityError("the webhook is changed by others at the same time; try again")

    def remove(self, tenant: str, endpoint_id: str) -> None:
        """Forget an endpoint.

        Raises:
            WebhookNotFound: there is none.
        """
        self.get(tenant, endpoint_id)
        self._remove_objects(endpoint_id)  # first, for without a record nobody would come back to them
        self._store.remove(tenant, endpoint_id)
        self._remove_objects(endpoint_id)  # again: somebody may have changed it meanwhile

    def restore(self) -> int:
        """Bring back from the bucket every endpoint that the store does not have; how many these were."""
        latest = {key.removeprefix(ENDPOINTS).partition("/")[0]: key for key in sorted(self._keys(ENDPOINTS))}
        return sum(self._restore(key) for key in latest.values())

    def _restore(self, key: str) -> bool:
        try:
            endpoint = Endpoint.model_validate_json(self._artifacts.get(key))
        except ArtifactNotFound:  # removed just now
            return False
        except ValidationError:
            logger.warning("the record %s of a webhook is damaged", key)
            return False
        try:
            return self._store.save(endpoint, over=0)
        except TooManyWebhooks:  # some were added while the store had no memory
            logger.warning("the webhook %s is one too many, and not restored", endpoint.id)
            return False

    def _put_or_undo(self, changed: Endpoint, known: Endpoint) -> None:
        try:
            self._put(changed)
        except DependencyError:
            # A secret that its client was never shown must not be the one that signs.
            with suppress(DependencyError):
                undone = known.model_copy(update={"version": changed.version + 1})
                self._store.save(undone, over=changed.version)
            raise

    def _put(self, endpoint: Endpoint) -> None:
        key = endpoint_key(endpoint.id, endpoint.version)
        self._artifacts.put(key, endpoint.to_json().encode(), _JSON)
        with suppress(DependencyError):  # the next change removes them too
            self._artifacts.delete(old for old in self._keys(endpoint_prefix(endpoint.id)) if old < key)

    def _remove_objects(self, endpoint_id: str) -> None:
        self._artifacts.delete(self._keys(endpoint_prefix(endpoint_id)))

    def _keys(self, prefix: str) -> list[str]:
        return list(self._artifacts.keys(prefix))
