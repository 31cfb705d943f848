"""What readers of data sets give, and what they need of the place where a data set is."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Protocol

from pydantic import JsonValue

from maskline.batch_items import BatchItem, PackedImage
from maskline.requests import MAX_PROMPTS, Prompt, Subtask


class NotADataset(Exception):
    """The data set as a whole can't be read; the message says what would be right."""


class Effect(StrEnum):
    """What a problem leaves out."""

    PASSED_OVER = "passed_over"  #: what was never meant to be an item or a prompt; nothing is wrong
    PROMPT_LEFT_OUT = "prompt_left_out"  #: one prompt; its image goes on with the others
    ITEM_LEFT_OUT = "item_left_out"  #: an image, with all its prompts


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something in a data set that becomes no item, or no prompt."""

    where: str
    """Such as ``line 12``, ``annotation 7`` or ``labels/a.txt, line 3``."""
    message: str
    """What was wrong, and what would be right."""
    effect: Effect
    """What is left out for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcedItem:
    """An item whose image is still where the data set has it."""

    position: int
    """Of the item, from 1: in a manifest the number of its line, else that of the image."""
    id: str
    """Once in a data set: as the manifest has it, or its line's number; else the image's name."""
    image: Path | str
    """A file of this machine, or an address that ``BatchItem`` takes."""
    prompts: tuple[Prompt, ...] | None = None
    """None: those of the batch."""
    subtask: Subtask | None = None
    """None: that of the batch."""
    parameters: dict[str, JsonValue] = field(default_factory=dict)
    """Over those of the batch, one by one."""
    auto_orient: bool | None = None
    """None: as the batch has it."""
    metadata: dict[str, JsonValue] = field(default_factory=dict)
    """Given back beside the result."""

    def at(self, image: str | PackedImage) -> BatchItem:
        """The item for a batch, with its image at an address or in a pack.

        Raises:
            pydantic.ValidationError: the address, or the item's id, is none that a batch takes.
        """
        return BatchItem(
            id=self.id,
            line=self.position,
            image=image,
            subtask=self.subtask,
            prompts=self.prompts,
            parameters=self.parameters,
            auto_orient=self.auto_orient,
            metadata=self.metadata,
        )


Sourced = SourcedItem | Problem


class DatasetFiles(Protocol):
    """The files of a data set, each named by its path from the data set's folder, with ``/`` between."""

    def names(self) -> Iterator[str]:
        """All files but hidden ones, sorted."""

    def open(self, name: str) -> BinaryIO:
        """A file, to be read from its beginning.

        Raises:
            FileNotFoundError: there is none of this name.
        """

    def address(self, name: str) -> Path | str:
        """Where an image is: a file of this machine, or an address that ``BatchItem`` takes.

        Raises:
            FileNotFoundError: there is none of this name; where that takes a call for each, it is not asked.
        """

    def image_size(self, name: str) -> tuple[int, int]:
        """Width and height of an image in pixels, once it is upright.

        Raises:
            FileNotFoundError: there is none of this name.
            maskline.errors.RequestError: it is no image that can be read.
        """


def too_many_prompts(prompts: int) -> str | None:
    """What is wrong with so many prompts for one image; None: nothing."""
    if prompts <= MAX_PROMPTS:
        return None
    return f"it has {prompts} prompts; an image can have {MAX_PROMPTS}"
