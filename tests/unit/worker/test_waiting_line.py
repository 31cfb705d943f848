"""What waits for a model, and for room in a worker."""

import queue
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskline.jobs import INTERACTIVE_PER_BULK
from maskline.requests import Priority
from worker.slots import Slots
from worker.waiting_line import WaitingLine


def line_of(priorities: Sequence[Priority]) -> WaitingLine[tuple[Priority, int]]:
    line: WaitingLine[tuple[Priority, int]] = WaitingLine()
    for number, priority in enumerate(priorities):
        line.put((priority, number), priority)
    line.close()
    return line


@given(st.lists(st.sampled_from(Priority), max_size=60))
def test_every_one_comes_once_in_the_order_of_its_kind(priorities: list[Priority]) -> None:
    line = line_of(priorities)
    taken = list(iter(line.get, None))
    assert sorted(taken, key=lambda one: one[1]) == list(zip(priorities, range(len(priorities)), strict=True))
    for priority in Priority:
        numbers = [number for kind, number in taken if kind is priority]
        assert numbers == sorted(numbers)


def test_interactive_ones_come_first_but_not_for_ever() -> None:
    line = line_of([Priority.BULK] * 3 + [Priority.INTERACTIVE] * (2 * INTERACTIVE_PER_BULK))
    taken = [one[0] for one in iter(line.get, None)]
    some = [Priority.INTERACTIVE] * INTERACTIVE_PER_BULK
    assert taken == [*some, Priority.BULK, *some, Priority.BULK, Priority.BULK]


def test_an_empty_line_is_told_and_a_late_one_is_waited_for() -> None:
    line: WaitingLine[int] = WaitingLine()
    for timeout_s in (0.01, 0, -1):
        with pytest.raises(queue.Empty):
            line.get(timeout_s)
    later = threading.Timer(0.05, line.put, args=(7, Priority.BULK))
    later.start()
    assert line.get() == 7
    later.join()


def test_bulk_jobs_leave_room() -> None:
    slots = Slots(bulk=2)
    entered: queue.Queue[Priority] = queue.Queue()
    leave = threading.Event()

    def hold(priority: Priority) -> None:
        with slots.one(priority):
            entered.put(priority)
            leave.wait(10)

    threads = [threading.Thread(target=hold, args=(Priority.BULK,)) for _ in range(4)]
    threads += [threading.Thread(target=hold, args=(Priority.INTERACTIVE,)) for _ in range(3)]
    for thread in threads[:4]:
        thread.start()
    assert [entered.get(timeout=10) for _ in range(2)] == [Priority.BULK] * 2
    for thread in threads[4:]:
        thread.start()
    assert [entered.get(timeout=10) for _ in range(2)] == [Priority.INTERACTIVE] * 2
    with pytest.raises(queue.Empty):
        entered.get(timeout=0.1)
    leave.set()
    for thread in threads:
        thread.join(10)
    assert entered.qsize() == 3


def test_messages_are_taken_while_there_are_threads_to_spare() -> None:
    slots = Slots(bulk=2)
    taken = 0
    while slots.takes_bulk():
        slots.note_bulk_taken()
        taken += 1
    assert 2 < taken < slots.threads
    slots.note_bulk_done()
    assert slots.takes_bulk()
