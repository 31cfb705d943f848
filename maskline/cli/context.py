"""What the subcommands share: the service that they talk to, their output, and their exit codes."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from maskline.catalog import NotACatalog
from maskline.client import (
    ApiError,
    BatchDidNotSucceed,
    Client,
    ConnectionFailed,
    JobDidNotSucceed,
    MasklineError,
    Unavailable,
    WaitTimeout,
)
from maskline.client.connection import DEFAULT_URL
from maskline.datasets.source import NotADataset
from maskline.errors import WeightsUnusable
from maskline.local import StackError
from maskline.plain_words import tell
from maskline.settings import Device, SettingsError

EXIT_CODES = {
    0: "done",
    1: "the job or an item of the batch ended without success, masks could not be compared, the test event "
    "was not delivered, or the doctor found a failure",
    2: "wrong use of the command",
    3: "the service refused the request",
    4: "the service can't be reached or started, or is unavailable; weights can't be had, or are wrong",
    5: "the wait was over before the job",
    130: "Ctrl-C",
}
_PIPE_WIDTH = 100_000
SERVICE_FILE = Path("maskline-data/service.json")

to_people = Console(stderr=True)
"""Progress and remarks; standard output is for results alone."""
results = Console()

Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="MASKLINE_URL", help="The service; else that of `maskline up` in this folder."
    ),
]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", envvar="MASKLINE_API_KEY", help="Key to the service.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def connect(url: str | None, api_key: str | None) -> Client:
    """A client of the service that the options name, or of the one that runs in this folder."""
    if url is None and SERVICE_FILE.exists():
        try:
            service = json.loads(SERVICE_FILE.read_text("utf-8"))
            url, api_key = service["url"], api_key or service["apiKey"]
        except (ValueError, KeyError) as error:
            raise OSError(f"{SERVICE_FILE} is damaged; give --url and --api-key") from error
    return Client(url or DEFAULT_URL, api_key)


def read_device(text: str) -> str:
    """The name of a device, of an option.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        return TypeAdapter[str](Device).validate_python(text)
    except ValidationError as error:
        raise typer.BadParameter(tell(error)) from error


def remark(text: str) -> None:
    """A line to people, to the letter."""
    to_people.print(text, markup=False, highlight=False, soft_wrap=True)


def print_json(value: BaseModel | Iterable[BaseModel]) -> None:
    """One JSON document on standard output."""
    if isinstance(value, BaseModel):
        document: object = value.model_dump(mode="json", by_alias=True, exclude_none=True)
    else:
        document = [one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in value]
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on standard output, to the letter; into a pipe or a file each row in one line, in full."""
    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0)  # an id is for copying
    for row in rows:
        table.add_row(*map(Text, row))
    console = results if results.is_terminal else Console(width=_PIPE_WIDTH)
    console.print(table)


def as_exit_code(error: Exception) -> int:
    """The exit code for an error, after telling of it; an error that nobody expects is raised again."""
    match error:
        case JobDidNotSucceed() | BatchDidNotSucceed():
            code, text = 1, str(error)
        case WaitTimeout():
            code, text = 5, str(error)
        case ConnectionFailed() | Unavailable():
            code, text = 4, str(error)
        case ApiError() | MasklineError():
            code, text = 3, str(error)
        case WeightsUnusable() | StackError():
            code, text = 4, str(error)
        case ValidationError():
            code, text = 2, tell(error)
        case OSError() | NotACatalog() | NotADataset() | SettingsError():
            code, text = 2, str(error)
        case _:
            raise error
    to_people.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    return code
