"""``maskline demo``: a real photo through the real service, from nothing to its masks."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from maskline.cli.context import results, to_people
from maskline.cli.jobs import save_results, wait_with_progress
from maskline.client import Client
from maskline.local import Stack, StackError
from maskline.requests import Prompt

# A cup of coffee, by Rachel Michetti, public domain (CC0); scikit-image ships it.
PHOTO = "coffee.png"
PROMPTS = (
    Prompt(label="coffee", box=(192, 88, 374, 200), points=((230, 165), (250, 120), (280, 150), (320, 165))),
    Prompt(label="spoon", box=(320, 250, 412, 368), points=((365, 305), (390, 290))),
    Prompt(
        label="cup and saucer",
        box=(66, 10, 486, 392),
        points=(
            *((180, 90), (295, 30), (150, 120), (400, 200), (225, 256), (230, 270), (333, 245)),
            *((110, 250), (300, 370), (450, 220)),
        ),
    ),
)


def command(
    model: Annotated[str, typer.Option(help="Id of the model.")] = "grabcut",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("maskline-demo"),
) -> None:
    """Start the service, segment a photo, save its masks, and stop the service."""
    data_dir = out / "service"
    photo = photos() / PHOTO
    to_people.print("Starting Redis, S3, a worker and the API …")
    with Stack(data_dir) as stack, Client(stack.url, stack.api_key) as client:
        to_people.print(f"The service runs at {stack.url}; submitting {photo.name} …")
        job = client.submit(photo, model=model, prompts=PROMPTS)
        job = wait_with_progress(client, job.id)
        files = [Path(shutil.copy(photo, out)), *save_results(client, job, out)]
    shutil.rmtree(data_dir, ignore_errors=True)
    shown = job.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"prompts"})
    results.print_json(json.dumps(shown))
    to_people.print("Saved:")
    for file in sorted(files):
        to_people.print(f"  {file.resolve()}", highlight=False, soft_wrap=True)


def photos() -> Path:
    """The folder of scikit-image's photos.

    Raises:
        StackError: it is not installed.
    """
    spec = importlib.util.find_spec("skimage")  # found, not imported: only its photos are wanted
    if spec is None or spec.origin is None:
        raise StackError("the photo comes with scikit-image; install it with: pip install 'maskline[demo]'")
    return Path(spec.origin).parent / "data"
