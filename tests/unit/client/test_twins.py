"""The two clients: the same methods, with the same parameters."""

import inspect

from maskline import AsyncClient, Client


def public(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_they_differ_in_nothing_but_await() -> None:
    mine, others = public(Client), public(AsyncClient)
    assert mine.keys() == others.keys()
    for name, signature in mine.items():
        assert list(signature.parameters.values()) == list(others[name].parameters.values()), name


def test_the_twin_is_asynchronous() -> None:
    for name, member in inspect.getmembers(AsyncClient, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member), name
