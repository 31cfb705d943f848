"""Objects in the bucket that belong to no job: found and removed, slowly.

They come about where a process died between two steps: a submission that was stored and never recorded, the
files of an attempt that was overtaken and could not remove them, a job whose deletion was broken off.
"""

import secrets
from collections.abc import Mapping
from itertools import islice
from typing import Protocol

import structlog

from maskline.artifacts import PROBES, RESULTS, SUBMISSIONS, owner_of
from maskline.jobs import JobState
from maskline.ports import ArtifactStore, HousekeepingStore, RebuildingStore

logger = structlog.get_logger(module=__name__)

_AT_ONCE = 1000  # objects looked at together: a page of a listing, a pipeline of Redis, a call that deletes
_LOOKS_PER_AGE = 4

_ENDED_BY_AN_ATTEMPT = frozenset({JobState.SUCCEEDED, JobState.FAILED})  # whose files tell of the end

States = Mapping[str, tuple[JobState, int]]


class Records(HousekeepingStore, RebuildingStore, Protocol):
    """The job store, and whether it is whole."""


class OrphanRemover:
    """Reads the bucket as a stream, and asks the job store what belongs to whom."""

    def __init__(self, *, store: Records, artifacts: ArtifactStore, age_s: float) -> None:
        """``age_s``: how old an object has to be, by the bucket's clock."""
        self._store = store
        self._artifacts = artifacts
        self._age_s = age_s

    def look(self) -> None:
        """Look through the bucket once, if no worker did of late.

        Raises:
            DependencyError: Redis or the bucket does not answer; the next look goes on.
        """
        epoch = self._store.epoch()
        if epoch is None:  # while it is filled again from the bucket, nothing there is an orphan
            return
        # Whoever asked last is nobody's holder, so the lock tells the time since then.
        if not self._store.lead("orphans", secrets.token_hex(8), self._age_s / _LOOKS_PER_AGE):
            return
        for prefix in (SUBMISSIONS, RESULTS, PROBES):
            removed = self._remove_under(prefix, epoch)
            if removed:
                logger.info("orphans removed", prefix=prefix, objects=removed)

    def _remove_under(self, prefix: str, epoch: int) -> int:
        removed = 0
        old = (one.key for one in self._artifacts.objects(prefix) if one.age_s >= self._age_s)
        while keys := list(islice(old, _AT_ONCE)):
            jobs = {owner.job_id for key in keys if (owner := owner_of(key))}
            states = self._store.states(jobs)
            orphans = [key for key in keys if _is_orphan(key, states)]
            if orphans and self._store.epoch() != epoch:  # emptied since, perhaps before the states were read
                break
            self._artifacts.delete(orphans)
            removed += len(orphans)
        return removed


def _is_orphan(key: str, states: States) -> bool:
    owner = owner_of(key)
    if owner is None:
        return key.startswith(PROBES)  # anything else is not ours to judge
    if owner.job_id not in states:
        return True
    state, latest = states[owner.job_id]
    has_lost = owner.attempt != latest or state not in _ENDED_BY_AN_ATTEMPT
    return owner.attempt is not None and state.is_final and has_lost
