"""Lists as Google gives them: filtered, in pages, by ``filter``, ``pageSize`` and ``pageToken``."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, NamedTuple, TypeVar

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from maskline.errors import Fault, InvalidRequest
from maskline.wire import WireModel

_MAX_PAGE = 1000
_TERM = re.compile(r"""([A-Za-z_]+)\s*(!?=)\s*("(?:[^"\\]|\\.)*"|[^\s"]+)(?:\s+AND\s+|$)""")

Item = TypeVar("Item")


class ListQuery(WireModel):
    """Query of a list. Others, such as ``readMask`` and ``$alt``, are ignored."""

    model_config = ConfigDict(extra="ignore")

    filter: str = ""
    """``field="value"`` or ``field!="value"``, several joined by ``AND``; names in snake or camel case."""
    page_size: Annotated[int, Field(ge=0)] = 0
    """Most items on a page; 0, or more than 1000: 1000."""
    page_token: str = ""
    """``nextPageToken`` of the page before."""


class _Term(NamedTuple):
    field: str
    is_equal: bool
    value: str


def page_of(
    items: Sequence[Item],
    query: ListQuery,
    *,
    id_of: Callable[[Item], str],
    fields: Mapping[str, Callable[[Item], str]],
) -> tuple[list[Item], str | None]:
    """The page that is asked for, and the token of the next.

    Args:
        items: all, in the ascending order of their ids.
        query: what is asked for.
        id_of: an item's id.
        fields: what can be filtered by, camelCase.

    Raises:
        InvalidRequest: the filter is not understood.
    """
    terms = _parse(query.filter, fields)
    size = min(query.page_size or _MAX_PAGE, _MAX_PAGE)
    wanted = [
        item
        for item in items
        if id_of(item) > query.page_token
        and all((fields[term.field](item) == term.value) is term.is_equal for term in terms)
    ]
    page = wanted[:size]
    return page, id_of(page[-1]) if len(wanted) > size else None


def _parse(text: str, fields: Mapping[str, object]) -> list[_Term]:
    terms = []
    rest = text.strip()
    while rest:
        match = _TERM.match(rest)
        field = to_camel(match[1]) if match else ""
        if match is None or field not in fields:
            detail = f'{rest!r} is not understood; give FIELD="value" or FIELD!="value", joined by AND, '
            raise InvalidRequest(
                [Fault("", detail + f"of the fields {', '.join(fields)}", parameter="filter")]
            )
        value = re.sub(r"\\(.)", r"\1", match[3][1:-1]) if match[3].startswith('"') else match[3]
        terms.append(_Term(field, match[2] == "=", value))
        rest = rest[match.end() :]
    return terms
