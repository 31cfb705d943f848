"""What the fault campaign takes for two ends of a job."""

import pytest

from bench.faults import Move, Told


@pytest.mark.parametrize(
    ("moves", "has_one"),
    [
        ({2: "started", 3: "succeeded"}, True),
        ({2: "started", 4: "started", 5: "succeeded"}, True),
        ({2: "started", 3: "succeeded", 2000: "succeeded", 3000: "succeeded"}, True),
        ({2: "started", 2000: "succeeded"}, True),
        ({}, True),
        ({2: "started", 3: "succeeded", 5: "succeeded"}, False),
        ({2: "started", 3: "succeeded", 2001: "started"}, False),
        ({2: "started", 3: "succeeded", 2000: "succeeded", 2002: "succeeded"}, False),
        ({2: "started", 3: "failed"}, False),
        ({3: "succeeded", 2000: "failed"}, False),
    ],
)
def test_a_second_end_is_seen(moves: dict[int, str], has_one: bool) -> None:
    told = Told({number: Move(event_id=state, state=state, at=number) for number, state in moves.items()})
    assert told.has_one_end("succeeded") is has_one
