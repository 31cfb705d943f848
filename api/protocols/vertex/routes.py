"""What all routes of the protocol are made of."""

from collections.abc import Callable

from flask import Response

from api.protocols.vertex.errors import ErrorBody
from maskline.wire import WireModel

JSON = "application/json"
PROBLEM = ErrorBody

Route = tuple[str, str, Callable[..., Response]]
"""Method, path below a location, and view."""


class Nothing(WireModel):
    """``google.protobuf.Empty``."""
