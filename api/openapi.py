"""The OpenAPI 3.1 document, made from the routes and from the Pydantic models that validate.

A view says what it takes and gives with ``@operation``; the same query model validates its requests. A
library that does both (flask-openapi3 4.3) was measured at three times the cost of a whole small request,
because it makes each model's schema anew for every request.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import Any, TypeVar

from flask import Flask, request
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema

from api.errors import PROBLEM_MEDIA_TYPE, faults_of
from api.scopes import scopes_of
from maskline.errors import InvalidRequest
from maskline.keys import Scope
from maskline.resources import Problem

JsonSchema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OneOrMany:
    """An answer that is a list where what was asked about came in a list."""

    model: type[BaseModel]


Content = type[BaseModel] | tuple[type[BaseModel], ...] | OneOrMany | JsonSchema
"""A model, any one of several, one or a list of them, or a schema such as ``BINARY``."""

BINARY: JsonSchema = {"type": "string", "format": "binary"}

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """What one route takes and gives."""

    summary: str
    tag: str
    query: type[BaseModel] | None = None
    image_query: type[BaseModel] | None = None
    """Query that goes with a body which is an image; the view itself validates it."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request header to its description."""
    bodies: Mapping[str, Content] = field(default_factory=dict)
    """Media type to content."""
    answers: Mapping[int, Mapping[str, Content]]
    """Status to each media type that the answer may have, and its content."""
    needs_body: bool = True
    """Whether there must be one of the bodies, if there are any."""
    problems: tuple[int, ...] = ()
    problem: type[BaseModel] = Problem
    """Body of the errors; anything but a ``Problem`` is plain JSON."""
    is_open: bool = False
    """Whether it needs no key."""
    scope: Scope | None = None
    """What a key needs for it; None: what its method says (``api/scopes.py``)."""


def operation(
    summary: str,
    *,
    tag: str,
    answers: Mapping[int, Mapping[str, Content]],
    query: type[BaseModel] | None = None,
    image_query: type[BaseModel] | None = None,
    headers: Mapping[str, str] | None = None,
    bodies: Mapping[str, Content] | None = None,
    needs_body: bool = True,
    problems: tuple[int, ...] = (),
    problem: type[BaseModel] = Problem,
    is_open: bool = False,
    scope: Scope | None = None,
) -> Callable[[View], View]:
    """Describe a view; with ``query`` it is called with the validated model as ``query``."""

    def describe(view: View) -> View:
        @wraps(view)
        def validated(*args: object, **kwargs: object) -> object:
            if query is not None:
                kwargs["query"] = parse_query(query)
            return view(*args, **kwargs)

        validated.operation = Operation(  # type: ignore[attr-defined]
            summary=summary,
            tag=tag,
            query=query,
            image_query=image_query,
            headers=headers or {},
            bodies=bodies or {},
            answers=answers,
            needs_body=needs_body,
            problems=problems,
            problem=problem,
            is_open=is_open,
            scope=scope,
        )
        return validated  # type: ignore[return-value]

    return describe


Query = TypeVar("Query", bound=BaseModel)


def parse_query(model: type[Query]) -> Query:
    """The request's query parameters as ``model``.

    Raises:
        InvalidRequest: with a fault for each wrong or unknown parameter.
    """
    try:
        if not request.query_string:
            return _defaults(model)
        return model.model_validate(request.args.to_dict())
    except ValidationError as error:
        raise InvalidRequest(faults_of(error, in_query=True)) from error


@cache
def _defaults(model: type[Query]) -> Query:
    return model()


def make_document(app: Flask, version: str) -> JsonSchema:
    """The OpenAPI document of every route that has an ``@operation``."""
    described = [
        (rule, view.operation)
        for rule in app.url_map.iter_rules()
        if hasattr(view := app.view_functions[rule.endpoint], "operation")
    ]
    models = {Problem} | {
        model
        for _, op in described
        for content in (
            op.problem,
            *op.bodies.values(),
            *(content for answer in op.answers.values() for content in answer.values()),
        )
        for model in _models_of(content)
    }
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema(
        [(model, "validation") for model in ordered], ref_template="#/components/schemas/{model}"
    )
    needed_scope = scopes_of(app)
    paths: dict[str, JsonSchema] = {}
    for rule, op in sorted(described, key=lambda pair: pair[0].rule):
        path = re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            scope = needed_scope(rule.endpoint, method)
            paths.setdefault(path, {})[method.lower()] = _describe(op, rule.endpoint, path, scope)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Maskline",
            "version": version,
            "description": "Turns images into segmentation masks, asynchronously.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _describe(op: Operation, endpoint: str, path: str, scope: Scope | None) -> JsonSchema:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{([^}]+)}", path)
    ]
    parameters += [
        {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for name, text in op.headers.items()
    ]
    if op.query is not None:
        parameters += _query_parameters(op.query)
    if op.image_query is not None:
        parameters += _query_parameters(op.image_query, "Where the body is the image. ")
    answers = {str(status): _answer(status, contents) for status, contents in op.answers.items()}
    problem_media_type = PROBLEM_MEDIA_TYPE if op.problem is Problem else "application/json"
    problems = op.problems if op.is_open else (*op.problems, 401, 403)
    for status in sorted({*problems, 503}):
        answers.setdefault(str(status), _answer(status, {problem_media_type: op.problem}))
    for status in _OF_THE_SERVER:
        answer = answers.setdefault(str(status), _answer(status, {}))
        answer.setdefault("content", {})["text/html"] = {"schema": {"type": "string"}}
    described: JsonSchema = {
        "operationId": endpoint.rpartition(".")[2],
        "summary": op.summary,
        "tags": [op.tag],
        "parameters": parameters,
        "responses": answers,
    }
    if op.bodies:
        described["requestBody"] = {
            "required": op.needs_body,
            "content": _content(op.bodies),
        }
    described["security"] = [{way: [scope]} for way in _SECURITY_SCHEMES] if scope is not None else []
    return described


def _query_parameters(model: type[BaseModel], condition: str = "") -> list[JsonSchema]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.get("$defs", {})
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": condition + field_schema.pop("description", ""),
            **_encoded(_inlined(field_schema, definitions)),
        }
        for name, field_schema in schema.get("properties", {}).items()
    ]


def _encoded(schema: JsonSchema) -> JsonSchema:
    """How a query parameter is written: as it is, or as JSON where it has parts."""
    kinds = {kind.get("type") for kind in schema.get("anyOf", [schema])}
    return (
        {"content": {"application/json": {"schema": schema}}}
        if kinds & {"array", "object"}
        else {"schema": schema}
    )


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:  # noqa: ANN401 (any JSON)
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {name: _inlined(value, definitions) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_inlined(value, definitions) for value in schema]
    return schema


def _answer(status: int, contents: Mapping[str, Content]) -> JsonSchema:
    answer: JsonSchema = {"description": _STATUS_WORDS.get(status, "The request failed")}
    if contents:
        answer["content"] = _content(contents)
    return answer


def _content(contents: Mapping[str, Content]) -> JsonSchema:
    return {media_type: {"schema": _schema(content)} for media_type, content in contents.items()}


def _models_of(content: Content) -> tuple[type[BaseModel], ...]:
    match content:
        case OneOrMany(model):
            return (model,)
        case tuple():
            return content
        case type():
            return (content,)
        case _:
            return ()


def _schema(content: Content) -> JsonSchema:
    if isinstance(content, OneOrMany):
        one = _schema(content.model)
        return {"anyOf": [one, {"type": "array", "items": one}]}
    if isinstance(content, tuple):
        return {"anyOf": [_schema(model) for model in content]}
    return {"$ref": f"#/components/schemas/{content.__name__}"} if isinstance(content, type) else content


_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "googleHeader": {"type": "apiKey", "in": "header", "name": "X-Goog-Api-Key"},
}

_OF_THE_SERVER = (400, 414, 431)  # gunicorn's own answers to what is no HTTP, or too long, before any route
_STATUS_WORDS = {
    200: "Done",
    201: "Made",
    202: "Accepted; poll the job at the Location",
    204: "Done; nothing to say",
    400: "The body can't be read",
    401: "No key, or not a good one",
    403: "The key lacks the scope for this",
    404: "There is no such thing",
    408: "It did not end in time, and goes on",
    409: "The job is in another state",
    413: "Too large",
    414: "The path and the query are too long; put the request into the body",
    415: "A type that is not taken",
    422: "Something in the request is wrong; `errors` says what",
    429: "Too much waits already, or was submitted of late",
    431: "A header is too long",
    503: "Not now; try again after `Retry-After` seconds",
    504: "It did not end in time, and goes on",
}
