"""``maskline up``: the whole service on this machine."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from maskline.cli.context import read_device, results, to_people
from maskline.local import Stack
from maskline.local.offer import devices_here
from maskline.local.ports import next_free_port
from maskline.local.stack import EXPORT_BUCKET, IMPORT_BUCKET

DEFAULT_PORT = 8080


def command(
    port: Annotated[
        int, typer.Option(help="Port of the API; the next free one if it is taken.", min=1, max=65_535)
    ] = DEFAULT_PORT,
    data_dir: Annotated[Path, typer.Option(help="Folder that keeps everything.")] = Path("maskline-data"),
    workers: Annotated[
        int | None,
        typer.Option(
            help="Workers to start; else one, or one for each --device. They take the devices in turn.", min=1
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            parser=read_device,
            metavar="DEVICE",
            help="Where a worker's models run: cpu, mps, cuda or cuda:1. May come again, for more workers.",
        ),
    ] = None,
) -> None:
    """Run Redis, S3, a worker and the API on this machine, until Ctrl-C."""
    devices = device or []
    if workers is not None and workers < len(devices):
        raise typer.BadParameter(f"{len(devices)} devices need at least as many --workers")
    if accelerators := sorted({*devices} - {"cpu"}):
        for name, here in zip(accelerators, devices_here(*accelerators), strict=True):
            if here.fault is not None:
                raise typer.BadParameter(f"there is no {name} on this machine that torch can use")
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    free = next_free_port(port)
    if free != port:
        to_people.print(f"Port {port} is taken; using {free}.")
    stack = Stack(data_dir, port=free, workers=workers or len(devices) or 1, devices=devices)
    stack.on_restart = lambda name: to_people.print(f"{name} ended; starting it again.")
    with stack:
        _tell(stack)
        stopping.wait()
        to_people.print("Stopping; jobs in hand are finished first.")


def _tell(stack: Stack) -> None:
    lines = (
        f"Maskline runs at {stack.url}",
        f"  documentation  {stack.url}/docs/",
        f"  logs           {stack.log_dir}",
        "",
        f"export MASKLINE_URL={stack.url}",
        f"export MASKLINE_API_KEY={stack.api_key}",
        "",
        f"For batches, an S3 client reaches the buckets {IMPORT_BUCKET} and {EXPORT_BUCKET} by",
        *(f"export {name}={value}" for name, value in stack.s3_environment().items()),
        "",
        "Ctrl-C ends it.",
    )
    results.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
