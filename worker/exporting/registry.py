"""Which export formats there are, and the one function that exports."""

import pkgutil
from collections.abc import Iterable
from importlib import import_module
from typing import BinaryIO, cast

from worker import exports
from worker.exporting.archive import Archive
from worker.exporting.categories import CategoryTable
from worker.exporting.format import Export, ExportFormat, ExportOptions
from worker.exporting.labelled_image import LabelledImage


def format_names() -> tuple[str, ...]:
    """The files of the folder ``worker/exports``, in the order of the alphabet."""
    modules = pkgutil.iter_modules(exports.__path__)
    return tuple(sorted(module.name.replace("_", "-") for module in modules))


def find_format(name: str) -> ExportFormat:
    """A format by its name, imported on first use.

    Raises:
        ValueError: there is no such format.
    """
    if name not in format_names():
        raise ValueError(f"there is no format {name!r}; there are: {', '.join(format_names())}")
    return cast(ExportFormat, import_module(f"{exports.__name__}.{name.replace('-', '_')}"))


def export(
    format_name: str,
    images: Iterable[LabelledImage],
    file: BinaryIO,
    options: ExportOptions | None = None,
) -> None:
    """Write a ZIP file of the images' labels.

    Args:
        format_name: one of ``format_names``.
        images: gone through once.
        file: open for writing; it need not be seekable, and is not closed.
        options: left out: masks of instances, by a model without categories of its own.

    Raises:
        ValueError: there is no such format, or a result lacks what it needs.
        TooManyCategories: masks can't tell the batch's categories apart.
    """
    chosen = find_format(format_name)
    options = options or ExportOptions()
    with Archive(file) as archive:
        categories = CategoryTable(options.annotation_specs)
        chosen.write(Export(images, archive, options, categories))
