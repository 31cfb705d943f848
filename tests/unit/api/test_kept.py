"""Texts that are kept for a moment."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

from api.kept import KeptTexts


def test_a_text_is_made_once_in_its_time() -> None:
    numbers = itertools.count()
    kept = KeptTexts(most=10, for_s=0.05)
    assert {kept.get("a", lambda: str(next(numbers))) for _ in range(5)} == {"0"}
    assert kept.get("b", lambda: str(next(numbers))) == "1"
    time.sleep(0.06)
    assert kept.get("a", lambda: str(next(numbers))) == "2"


def test_the_oldest_leaves_when_there_are_too_many() -> None:
    kept = KeptTexts(most=2, for_s=60)
    for name in "abc":
        kept.get(name, lambda name=name: name)  # type: ignore[misc]
    assert kept.get("b", lambda: "new") == "b"
    assert kept.get("a", lambda: "new") == "new"


def test_many_threads_can_ask() -> None:
    kept = KeptTexts(most=3, for_s=60)
    with ThreadPoolExecutor(8) as threads:
        texts = list(threads.map(lambda i: kept.get(i % 5, lambda: str(i % 5)), range(2000)))
    assert texts == [str(i % 5) for i in range(2000)]
