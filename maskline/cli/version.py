"""``maskline version``."""

from importlib.metadata import version

import typer


def command() -> None:
    """Print the version."""
    typer.echo(version("maskline"))
