"""The messages to the workers, against Celery's own; and the order in which they are taken."""

import base64
import json
from typing import Any

from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from maskline.adapters.celery_queue import (
    CeleryHints,
    CeleryTaskQueue,
    QueueOrder,
    is_bulk,
    kind_of,
    make_celery,
    queue_name,
    queue_names,
)
from maskline.jobs import INTERACTIVE_PER_BULK, Kind
from maskline.ports import Hint
from maskline.requests import Priority

HINT = Hint("0" * 32, "family/model.v1", Priority.BULK)
FRESH = {"id", "root_id", "correlation_id", "delivery_tag", "origin", "reply_to"}


def sent_by_celery() -> tuple[str, dict[str, Any]]:
    """The queue and the message of ``CeleryTaskQueue``, by way of kombu's in-memory transport."""
    app = make_celery("memory://", "")
    app.conf.broker_transport_options = {}
    CeleryTaskQueue(app).publish_job(HINT)
    return taken_from(app)


def taken_from(app: Celery) -> tuple[str, dict[str, Any]]:
    with app.connection_for_read() as connection:
        [(queue, messages)] = [
            (name, q) for name, q in connection.default_channel.queues.items() if q.qsize()
        ]
        return queue, messages.get()


def without_fresh(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in FRESH}


def test_a_queue_tells_the_kind_that_it_was_named_after() -> None:
    for priority in Priority:
        assert kind_of(queue_name("family/model.v1", priority)) == Kind("family/model.v1", priority)


def test_our_message_is_the_one_that_celery_sends() -> None:
    queue, theirs = sent_by_celery()
    name, text = CeleryHints("prefix:")(HINT)
    ours = json.loads(text)
    assert name == f"prefix:{queue}"
    assert ours.keys() == theirs.keys()
    assert json.loads(base64.b64decode(ours["body"])) == json.loads(base64.b64decode(theirs["body"]))
    assert without_fresh(ours["properties"]) == without_fresh(theirs["properties"])
    mine, wanted = without_fresh(ours["headers"]), without_fresh(theirs["headers"])
    assert mine == {key: wanted[key] for key in mine}
    assert all(
        value in (None, False, 0, "", {}) or "repr" in key for key, value in wanted.items() if key not in mine
    ), wanted


QUEUES = queue_names(["a", "b.c", "d/e"])


@given(st.lists(st.sampled_from(["a", "b.c", "d/e"]), max_size=INTERACTIVE_PER_BULK - 1))
def test_overlays_come_first_and_bulk_last(taken: list[str]) -> None:
    order = QueueOrder()
    order.update(set(QUEUES))
    for model in taken:
        order.rotate(f"jobs.interactive.{model}")
    ordered = order.consume(len(QUEUES))
    assert sorted(ordered) == sorted(QUEUES)
    assert ordered[0] == "overlays"
    assert all(".interactive." in queue for queue in ordered[1:4])
    if taken:
        assert ordered[3] == f"jobs.interactive.{taken[-1]}"


def test_bulk_has_its_turn_after_some_interactive_ones() -> None:
    order = QueueOrder()
    order.update(QUEUES)
    taken = []
    for _ in range(3 * (INTERACTIVE_PER_BULK + 1)):  # every queue has messages, but there are no overlays
        taken.append(order.rotate(order.consume(len(QUEUES))[1]))
    bulk = [number for number, queue in enumerate(taken, 1) if is_bulk(queue)]
    assert bulk == [INTERACTIVE_PER_BULK + 1, 2 * (INTERACTIVE_PER_BULK + 1), 3 * (INTERACTIVE_PER_BULK + 1)]
    assert len({taken[number - 1] for number in bulk}) == 3  # the models take turns


def test_bulk_is_not_asked_for_while_there_is_no_room() -> None:
    order = QueueOrder(lambda: False)
    order.update(QUEUES)
    for _ in range(20):
        asked = order.consume(len(QUEUES))
        assert sorted(asked) == sorted(queue for queue in QUEUES if not is_bulk(queue))
        order.rotate(asked[1])
