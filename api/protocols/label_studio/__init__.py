"""A machine learning backend for Label Studio.

The form is what Label Studio's own connector sends and reads (``label_studio/ml``, version 1.23.2) and what
the ``label-studio-ml`` package answers; ``docs/label-studio.md`` has what was observed, and a recorded
exchange.
"""

from flask import Request
from pydantic import JsonValue

from api.protocols.label_studio.views import ROOT, make_blueprint
from maskline.resources import Problem

__all__ = ["key_in", "make_blueprint", "speaks_to", "tell"]


def speaks_to(request: Request) -> bool:
    """Whether the request is of Label Studio."""
    return f"{request.path}/".startswith(f"{ROOT}/")


def tell(problem: Problem) -> JsonValue:
    """``status`` and ``detail``, as ``label-studio-ml`` has them. Label Studio reads the status alone."""
    return {"status": problem.status, "detail": problem.detail, "code": problem.code}


def key_in(request: Request, max_image_bytes: int) -> str | None:
    """The password of HTTP Basic, which is all that Label Studio can send; the user's name is any."""
    given = request.authorization
    if given is None or given.type != "basic" or not speaks_to(request):
        return None
    return given.password
