"""The promises of ``EndpointStore`` and ``Outbox``, and of the stores that put events into the latter."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from maskline.batches import BatchState, Progress
from maskline.errors import TooManyWebhooks
from maskline.jobs import Job
from maskline.ports import BatchStore, EndpointStore, Outbox
from maskline.requests import EventType, Webhook
from maskline.webhooks import (
    EVERY_END,
    MAX_ENDPOINTS,
    OWN,
    TEST_EVENT,
    Delivery,
    DeliveryOutcome,
    Disabled,
    DisabledReason,
    Endpoint,
    EndpointEvent,
    SigningSecret,
    new_endpoint_id,
    new_secret,
)
from tests.contracts.batch_store import ENDED, KEPT_S, make_batch
from tests.contracts.job_store import FAILURE, LEASE_S, MANY, Store, run, submit
from tests.factories import SECRET, make_job

MAX_DEAD = 4
ALL = tuple(EndpointEvent)
OFF = Disabled(reason=DisabledReason.CLIENT, note="not now", at_ms=1)


def make_endpoint(tenant: str = "default", **fields: Any) -> Endpoint:
    return Endpoint(
        **{
            "id": new_endpoint_id(),
            "tenant": tenant,
            "url": "https://example.com",
            "events": EVERY_END,
            "secrets": (SigningSecret(secret=new_secret()),),
            "created_ms": 1_700_000_000_000,
        }
        | fields
    )


@dataclass(kw_only=True)
class Stores:
    """Stores over one Redis, or doubles that know each other."""

    jobs: Store
    batches: BatchStore
    endpoints: EndpointStore
    outbox: Outbox
    """Keeps ``MAX_DEAD`` dead letters of a tenant, for an hour."""
    lose_memory: Callable[[], None]
    """Takes all from all of them."""
    forgetful: Outbox
    """The same, but it keeps dead letters for 0.2 seconds."""

    def finish(self, **job: Any) -> Job:
        """A job that has succeeded."""
        return run(self.jobs, submit(self.jobs, make_job(**job)))

    def bury(self, outbox: Outbox | None = None, **job: Any) -> Delivery:
        """The only delivery of a job that succeeds, given up."""
        done = self.finish(**job)
        [delivery] = self.outbox.due(MANY, 60)
        assert delivery.subject == done.id
        (outbox or self.outbox).bury(delivery)
        time.sleep(0.002)  # so that no two have one time
        return delivery

    def dead(self, tenant: str = "default", endpoint_id: str | None = None) -> list[str]:
        """Ids of the dead letters."""
        page = self.outbox.dead_letters(tenant, endpoint_id=endpoint_id, size=100, token=None)
        assert page.next_token is None
        return [letter.delivery.id for letter in page.letters]


def own(*events: EventType) -> Webhook:
    return Webhook(url="https://example.com", secret=SECRET, events=events or (EventType.SUCCEEDED,))


class EndpointStoreContract:
    """Inherit, and give a fixture ``stores``."""

    def test_what_is_kept_comes_back_to_its_tenant_alone(self, stores: Stores) -> None:
        first, second, foreign = make_endpoint(), make_endpoint(disabled=OFF), make_endpoint("other")
        for endpoint in (second, foreign, first):
            assert stores.endpoints.save(endpoint, over=0)
        assert stores.endpoints.all("default") == sorted([first, second], key=lambda one: one.id)
        assert stores.endpoints.find("default", first.id) == first
        assert stores.endpoints.find("default", foreign.id) is None
        stores.endpoints.remove("default", foreign.id)
        assert stores.endpoints.all("other") == [foreign]
        stores.endpoints.remove("other", foreign.id)
        assert stores.endpoints.all("other") == []

    def test_a_change_takes_the_place_of_the_version_that_it_knew(self, stores: Stores) -> None:
        endpoint = make_endpoint()
        changed = endpoint.model_copy(update={"version": 2, "description": "changed"})
        assert not stores.endpoints.save(changed, over=1)
        assert stores.endpoints.save(endpoint, over=0)
        assert not stores.endpoints.save(endpoint, over=0)
        assert stores.endpoints.save(changed, over=1)
        assert not stores.endpoints.save(changed, over=1)
        assert stores.endpoints.find("default", endpoint.id) == changed

    def test_a_tenant_has_so_many_and_no_more(self, stores: Stores) -> None:
        endpoints = [make_endpoint() for _ in range(MAX_ENDPOINTS)]
        for endpoint in endpoints:
            assert stores.endpoints.save(endpoint, over=0)
        with pytest.raises(TooManyWebhooks):
            stores.endpoints.save(make_endpoint(), over=0)
        assert stores.endpoints.save(make_endpoint("other"), over=0)
        assert stores.endpoints.save(endpoints[0].model_copy(update={"version": 2}), over=1)


class OutboxContract:
    """Inherit, and give a fixture ``stores``."""

    # -- what is told, to whom, under which id

    def test_an_end_that_may_not_have_been_told_is_told_after_a_lost_memory(self, stores: Stores) -> None:
        endpoint = make_endpoint()
        stores.endpoints.save(endpoint, over=0)
        done = stores.finish(webhook=Webhook(url="https://example.com", secret=SECRET))
        assert done.finished_ms is not None
        told = {delivery.id for delivery in stores.outbox.due(MANY, 60)}
        assert len(told) == 2
        for told_after_ms, again in ((done.finished_ms - 1, told), (done.finished_ms, set())):
            stores.lose_memory()
            assert stores.outbox.due(MANY, 60) == []
            stores.endpoints.save(endpoint, over=0)
            assert stores.jobs.restore(stores.jobs.begin_rebuild(), done, None, told_after_ms)
            assert {delivery.id for delivery in stores.outbox.due(MANY, 60)} == again

    def test_each_move_that_was_asked_for_is_an_event_whose_id_follows_from_it(self, stores: Stores) -> None:
        job = submit(stores.jobs, make_job(webhook=own(*EventType)))
        assert stores.jobs.claim(job.kind, "w", LEASE_S)
        assert stores.jobs.release(job.id, 1)
        job = run(stores.jobs, job)
        started, again, succeeded = sorted(stores.outbox.due(MANY, 60), key=lambda one: one.version)
        assert [one.type for one in (started, again, succeeded)] == [
            EventType.STARTED,
            EventType.STARTED,
            EventType.SUCCEEDED,
        ]
        assert [one.event_id for one in (started, again, succeeded)] == [
            f"evt_{job.id}_started_1",
            f"evt_{job.id}_started_2",
            f"evt_{job.id}_succeeded",
        ]
        assert [one.version for one in (started, again, succeeded)] == [2, 4, job.version]
        assert succeeded.id == f"evt_{job.id}_succeeded.own"
        assert (succeeded.tenant, succeeded.subject, succeeded.endpoint) == ("default", job.id, None)
        assert succeeded.tries == 0
        assert job.finished_ms == succeeded.timestamp_ms
        assert stores.outbox.due(MANY, 60) == []

    def test_every_end_is_told(self, stores: Stores) -> None:
        stores.endpoints.save(make_endpoint(events=ALL), over=0)
        failed = run(stores.jobs, submit(stores.jobs, make_job()), FAILURE)
        cancelled = submit(stores.jobs, make_job())
        stores.jobs.cancel("default", cancelled.id)
        expired = submit(stores.jobs, make_job(lives_s=0.01))
        time.sleep(0.02)
        stores.jobs.expire(60, MANY)
        assert {(one.type, one.event_id) for one in stores.outbox.due(MANY, 60)} == {
            ("job.started", f"evt_{failed.id}_started_1"),
            ("job.failed", f"evt_{failed.id}_failed"),
            ("job.cancelled", f"evt_{cancelled.id}_cancelled"),
            ("job.expired", f"evt_{expired.id}_expired"),
        }

    def test_moves_that_nobody_asked_for_are_no_events(self, stores: Stores) -> None:
        stores.endpoints.save(make_endpoint(events=(EndpointEvent.JOB_FAILED,)), over=0)
        stores.endpoints.save(make_endpoint("other", events=ALL), over=0)
        stores.endpoints.save(make_endpoint(events=ALL, disabled=OFF), over=0)
        removed = make_endpoint(events=ALL)
        stores.endpoints.save(removed, over=0)
        stores.endpoints.remove("default", removed.id)
        stores.finish()
        stores.finish(webhook=own(EventType.FAILED))
        assert stores.outbox.due(MANY, 60) == []

    def test_every_receiver_gets_the_event_under_its_one_id(self, stores: Stores) -> None:
        first, second = make_endpoint(), make_endpoint()
        for endpoint in (first, second):
            stores.endpoints.save(endpoint, over=0)
        job = stores.finish(webhook=own())
        deliveries = stores.outbox.due(MANY, 60)
        assert {one.endpoint for one in deliveries} == {None, first.id, second.id}
        assert {one.event_id for one in deliveries} == {f"evt_{job.id}_succeeded"}
        assert len({one.id for one in deliveries}) == 3

    def test_an_endpoint_is_told_as_it_was_changed(self, stores: Stores) -> None:
        endpoint = make_endpoint()
        stores.endpoints.save(endpoint, over=0)
        off = endpoint.model_copy(update={"version": 2, "disabled": OFF})
        stores.endpoints.save(off, over=1)
        stores.finish()
        on = endpoint.model_copy(update={"version": 3, "events": (EndpointEvent.JOB_STARTED,)})
        stores.endpoints.save(on, over=2)
        stores.finish()
        assert [one.type for one in stores.outbox.due(MANY, 60)] == ["job.started"]

    @pytest.mark.parametrize("state", [BatchState.SUCCEEDED, BatchState.FAILED, BatchState.CANCELLED])
    def test_a_batch_is_told_of_once_for_each_state(self, stores: Stores, state: BatchState) -> None:
        endpoint = make_endpoint(events=ALL)
        stores.endpoints.save(endpoint, over=0)
        batch = make_batch()
        stores.batches.create(batch, 10)
        running = stores.batches.save(batch, Progress(state=BatchState.RUNNING), KEPT_S)
        assert running is not None
        assert stores.batches.save(batch, Progress(state=BatchState.RUNNING), KEPT_S) is None
        further = stores.batches.save(running, Progress(state=BatchState.RUNNING, items=3), KEPT_S)
        assert further is not None
        ended = stores.batches.save(further, ENDED.model_copy(update={"state": state}), KEPT_S)
        assert ended is not None
        told = stores.outbox.due(MANY, 60)
        assert sorted((one.version, one.type, one.event_id) for one in told) == [
            (running.version, "batch.started", f"evt_{batch.id}_started"),
            (ended.version, f"batch.{state}", f"evt_{batch.id}_{state}"),
        ]
        assert {(one.subject, one.tenant, one.endpoint) for one in told} == {
            (batch.id, "default", endpoint.id)
        }

    def test_a_batch_is_told_of_at_each_tenth_and_in_each_round(self, stores: Stores) -> None:
        stores.endpoints.save(make_endpoint(events=ALL), over=0)
        batch = make_batch()
        stores.batches.create(batch, 10)
        running = Progress(state=BatchState.RUNNING)
        again = running.model_copy(update={"rounds": 1})
        for progress in (
            running,
            running.model_copy(update={"tenths": 3}),
            running.model_copy(update={"tenths": 3, "published": 1}),
            running.model_copy(update={"tenths": 9}),
            ENDED.model_copy(update={"tenths": 9}),
            again,
            again.model_copy(update={"tenths": 5}),
            ENDED.model_copy(update={"rounds": 1, "tenths": 5}),
        ):
            read = stores.batches.get("default", batch.id)
            assert stores.batches.save(read, progress, KEPT_S)
        told = sorted(stores.outbox.due(MANY, 60), key=lambda one: one.version)
        assert [one.event_id.removeprefix(f"evt_{batch.id}_") for one in told] == [
            "started",
            "progressed_30",
            "progressed_90",
            "succeeded",
            "started_1",
            "progressed_150",
            "succeeded_1",
        ]
        assert {one.type for one in told} == {"batch.started", "batch.progressed", "batch.succeeded"}

    # -- what becomes of it

    def test_a_delivery_comes_back_until_it_is_delivered(self, stores: Stores) -> None:
        stores.finish(webhook=own())
        [delivery] = stores.outbox.due(MANY, 0.005)
        time.sleep(0.01)
        assert stores.outbox.due(MANY, 60) == [delivery]
        stores.outbox.postpone(delivery, 0)
        assert stores.outbox.due(MANY, 60) == [delivery]
        tried = delivery.model_copy(update={"tries": 1, "body": '{"a":"é/"}', "problem": "no"})
        assert stores.outbox.retry(tried, 0) == 0
        assert stores.outbox.due(MANY, 60) == [tried]
        stores.outbox.delivered(tried)
        stores.outbox.postpone(tried, 0)
        stores.outbox.retry(tried, 0)
        stores.outbox.bury(tried)
        assert stores.outbox.due(MANY, 60) == []
        assert stores.dead() == []

    def test_how_long_an_endpoint_fails_is_known(self, stores: Stores) -> None:
        endpoint = make_endpoint()
        stores.endpoints.save(endpoint, over=0)
        stores.finish()
        stores.finish()
        first, second = stores.outbox.due(MANY, 60)
        assert stores.outbox.retry(first, 60) == 0
        time.sleep(0.02)
        failing_s = stores.outbox.retry(second, 60)
        assert 0.02 <= failing_s < 60
        assert stores.outbox.retry(first, 60) >= failing_s
        stores.outbox.delivered(first)
        assert stores.outbox.retry(second, 60) == 0

    def test_an_endpoint_that_was_disabled_begins_anew(self, stores: Stores) -> None:
        endpoint = make_endpoint()
        stores.endpoints.save(endpoint, over=0)
        stores.finish()
        [delivery] = stores.outbox.due(MANY, 60)
        stores.outbox.retry(delivery, 60)
        time.sleep(0.01)
        stores.endpoints.save(endpoint.model_copy(update={"version": 2, "disabled": OFF}), over=1)
        stores.endpoints.save(endpoint.model_copy(update={"version": 3}), over=2)
        assert stores.outbox.retry(delivery, 60) == 0

    @pytest.mark.parametrize("is_removed", [True, False], ids=["removed", "disabled"])
    def test_nothing_is_remembered_of_an_endpoint_that_went_during_a_call(
        self, stores: Stores, is_removed: bool
    ) -> None:
        endpoint = make_endpoint()
        stores.endpoints.save(endpoint, over=0)
        stores.finish()
        [delivery] = stores.outbox.due(MANY, 60)
        if is_removed:
            stores.endpoints.remove("default", endpoint.id)
        else:
            stores.endpoints.save(endpoint.model_copy(update={"version": 2, "disabled": OFF}), over=1)
        assert stores.outbox.retry(delivery, 60) == 0
        time.sleep(0.01)
        back = endpoint.model_copy(update={"version": 3})
        stores.endpoints.save(back, over=0 if is_removed else 2)
        assert stores.outbox.retry(delivery, 60) == 0

    def test_a_delivery_that_nobody_is_there_for_is_gone(self, stores: Stores) -> None:
        stores.finish(webhook=own())
        [delivery] = stores.outbox.due(MANY, 0)
        stores.outbox.drop(delivery)
        assert stores.outbox.due(MANY, 0) == []
        assert stores.dead() == []

    # -- dead letters

    def test_a_dead_letter_is_kept_as_it_was_given_up(self, stores: Stores) -> None:
        stores.finish(webhook=own())
        [delivery] = stores.outbox.due(MANY, 0)
        given_up = delivery.model_copy(
            update={"tries": 3, "problem": "answered with 500", "secret": SECRET, "url": "https://x.test"}
        )
        stores.outbox.bury(given_up)
        assert stores.outbox.due(MANY, 0) == []
        [letter] = stores.outbox.dead_letters("default", endpoint_id=None, size=10, token=None).letters
        assert letter.delivery == given_up
        assert letter.buried_ms >= delivery.timestamp_ms
        assert stores.dead("other") == []

    def test_pages_hold_every_dead_letter_once_latest_first(self, stores: Stores) -> None:
        ids = [stores.bury(webhook=own()).id for _ in range(3)]
        found: list[str] = []
        token = None
        for expected in (2, 1):
            page = stores.outbox.dead_letters("default", endpoint_id=None, size=2, token=token)
            assert len(page.letters) == expected
            found += [letter.delivery.id for letter in page.letters]
            token = page.next_token
        assert token is None
        assert found == ids[::-1]
        with pytest.raises(ValueError, match="none"):
            stores.outbox.dead_letters("default", endpoint_id=None, size=2, token="none")

    def test_the_dead_letters_of_one_endpoint_are_found(self, stores: Stores) -> None:
        stores.bury(webhook=own())
        endpoint = make_endpoint()
        stores.endpoints.save(endpoint, over=0)
        delivery = stores.bury()
        assert stores.dead(endpoint_id=endpoint.id) == [delivery.id]
        assert stores.dead(endpoint_id=new_endpoint_id()) == []
        assert len(stores.dead()) == 2

    def test_of_too_many_dead_letters_the_oldest_go(self, stores: Stores) -> None:
        ids = [stores.bury(webhook=own()).id for _ in range(MAX_DEAD + 2)]
        assert stores.dead() == ids[:1:-1]
        assert not stores.outbox.replay("default", ids[0])

    def test_a_dead_letter_goes_after_a_while(self, stores: Stores) -> None:
        delivery = stores.bury(stores.forgetful, webhook=own())
        time.sleep(0.25)
        page = stores.forgetful.dead_letters("default", endpoint_id=None, size=10, token=None)
        assert page.letters == ()
        assert not stores.forgetful.replay("default", delivery.id)

    def test_a_dead_letter_is_replayed_once_with_all_its_tries(self, stores: Stores) -> None:
        stores.finish(webhook=own())
        [delivery] = stores.outbox.due(MANY, 60)
        stores.outbox.bury(delivery.model_copy(update={"tries": 9, "body": "{}", "problem": "no"}))
        assert not stores.outbox.replay("other", delivery.id)
        assert not stores.outbox.replay("default", "evt_none.own")
        assert stores.outbox.replay("default", delivery.id)
        assert not stores.outbox.replay("default", delivery.id)
        assert stores.dead() == []
        [again] = stores.outbox.due(MANY, 60)
        assert again == delivery.model_copy(update={"body": "{}", "problem": "no"})

    def test_dead_letters_of_a_time_are_replayed(self, stores: Stores) -> None:
        endpoint = make_endpoint()
        deliveries = [stores.bury(webhook=own()) for _ in range(2)]
        stores.endpoints.save(endpoint, over=0)
        deliveries.append(stores.bury())
        page = stores.outbox.dead_letters("default", endpoint_id=None, size=10, token=None)
        times = [letter.buried_ms for letter in page.letters][::-1]
        between: Any = {"since_ms": times[1], "until_ms": times[2] + 1}
        both = {OWN, endpoint.id}
        assert stores.outbox.replay_between("other", receivers=both, **between) == 0
        assert stores.outbox.replay_between("default", receivers={"wh_none"}, **between) == 0
        assert stores.outbox.replay_between("default", receivers={endpoint.id}, **between) == 1
        assert stores.outbox.replay_between("default", receivers=both, **between) == 1
        assert {one.id for one in stores.outbox.due(MANY, 60)} == {one.id for one in deliveries[1:]}
        assert stores.outbox.replay_between("default", receivers=both, since_ms=0, until_ms=times[0]) == 0
        assert stores.dead() == [deliveries[0].id]

    # -- tests of an endpoint

    def test_a_test_event_is_due_at_once_even_where_nothing_else_is_sent(self, stores: Stores) -> None:
        endpoint = make_endpoint(disabled=OFF)
        stores.endpoints.save(endpoint, over=0)
        event_id = stores.outbox.send_test(endpoint)
        [delivery] = stores.outbox.due(MANY, 0)
        assert (delivery.event_id, delivery.type) == (event_id, TEST_EVENT)
        assert (delivery.endpoint, delivery.subject, delivery.tenant) == (endpoint.id, endpoint.id, "default")
        assert stores.outbox.test_outcome(event_id) is None
        outcome = DeliveryOutcome(status=500, problem="answered with 500")
        stores.outbox.tested(delivery, outcome)
        assert stores.outbox.test_outcome(event_id) == outcome
        assert stores.outbox.due(MANY, 0) == []
        assert stores.outbox.send_test(endpoint) != event_id
