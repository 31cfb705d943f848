"""The command ``maskline``: each subcommand in a module of its subject."""

import sys

import typer

from maskline.cli import batches, demo, doctor, evaluate, jobs, keys, label, models, up, version, webhooks
from maskline.cli.context import EXIT_CODES, as_exit_code

app = typer.Typer(
    name="maskline",
    help="Images in, segmentation masks out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
)
app.command("up")(up.command)
app.command("demo")(demo.command)
app.command("doctor")(doctor.command)
app.command("label")(label.command)
app.command("evaluate")(evaluate.command)
app.command("submit")(jobs.submit)
app.command("wait")(jobs.wait)
app.command("get")(jobs.get)
app.command("list")(jobs.list_jobs)
app.command("cancel")(jobs.cancel)
app.command("delete")(jobs.delete)
app.add_typer(batches.app, name="batches")
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
app.command("version")(version.command)


def main() -> None:
    """Run the command, and end with its exit code."""
    try:
        app()
    except Exception as error:
        sys.exit(as_exit_code(error))
