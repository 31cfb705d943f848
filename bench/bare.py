"""The least that a Flask view can do: what the API's rates are measured against."""

from flask import Flask, Response, request

app = Flask(__name__)


@app.post("/")
def read() -> Response:
    """Read the body."""
    return Response(f'{{"bytes": {len(request.get_data())}}}', mimetype="application/json")


@app.get("/")
def answer() -> Response:
    """Answer."""
    return Response('{"state": "succeeded"}', mimetype="application/json")
