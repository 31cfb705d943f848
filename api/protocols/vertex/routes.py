"""What all routes of the protocol are made of."""

from collections.abc import Callable

from flask import Response

from maskline.wire import WireModel

JSON = "application/json"

Route = tuple[str, str, Callable[..., Response]]
"""Method, path below a location, and view."""


def parent_of(project: str, location: str) -> str:
    """What the resource names of a location begin with."""
    return f"projects/{project}/locations/{location}"


class Nothing(WireModel):
    """``google.protobuf.Empty``."""
