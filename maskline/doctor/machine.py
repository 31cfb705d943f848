"""This machine, as a worker would find it: device, models, weights, room on its disks."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from maskline.catalog import ModelSpec, NotACatalog, load_catalog
from maskline.doctor.finding import Finding
from maskline.errors import WeightsUnusable
from maskline.local import StackError
from maskline.local.offer import devices_here, left_out_here
from maskline.settings import Settings
from maskline.weights import WeightStore

_LITTLE_BYTES = 5 << 30
_NOTHING_BYTES = 256 << 20


def look(settings: Settings) -> Iterator[Finding]:
    """Findings about the worker that could run here."""
    try:
        catalog = load_catalog(settings.catalog_file)
    except NotACatalog as error:
        yield Finding.failed("catalog", str(error), "correct the file, or MASKLINE_CATALOG_FILE")
        return
    if unknown := sorted(
        {settings.default_model, *settings.worker_models} - set(catalog) - _aliases(catalog)
    ):
        yield Finding.failed(
            "catalog",
            f"it has no {', '.join(unknown)}, which the settings name; it has: {', '.join(catalog)}",
            "correct MASKLINE_DEFAULT_MODEL or MASKLINE_WORKER_MODELS, or add the model to the catalog",
        )
        return
    yield Finding.ok("catalog", f"{len(catalog)} models")
    try:
        left_out = left_out_here(settings.catalog_file)
        yield _device(settings)
    except StackError as error:
        yield Finding.ok("device", f"not looked at: {error}")
        return
    yield _runnable(settings, left_out)
    yield _weights(settings, {name: spec for name, spec in catalog.items() if name not in left_out})
    yield from look_at_disk("disk of the weights", settings.weights_dir.expanduser())


def look_at_disk(check: str, folder: Path) -> Iterator[Finding]:
    """How much room there is for files in a folder; nothing where it does not exist yet."""
    if not folder.exists():
        return
    free = shutil.disk_usage(folder).free
    told = f"{free / 1e9:.3g} GB are free for {folder}"
    if free < _NOTHING_BYTES:
        yield Finding.failed(check, told, "make room, or move the folder to a larger disk")
    elif free < _LITTLE_BYTES:
        yield Finding.warning(check, told, "make room, or move the folder to a larger disk")
    else:
        yield Finding.ok(check, told)


def _aliases(catalog: Mapping[str, ModelSpec]) -> set[str]:
    return {alias for spec in catalog.values() for alias in spec.aliases}


def _device(settings: Settings) -> Finding:
    [found] = devices_here(*([settings.device] if settings.device else []))
    if found.fault is not None:
        return Finding.failed(
            "device", found.fault, "correct MASKLINE_DEVICE, or unset it for the best that is there"
        )
    if found.has_unused_gpu:
        return Finding.warning(
            "device",
            "there is an NVIDIA GPU, but torch does not see it; models run on the CPU",
            "install a torch built for CUDA, and see that nvidia-smi works for this user",
        )
    return Finding.ok("device", found.name)


def _runnable(settings: Settings, left_out: Mapping[str, str]) -> Finding:
    check = "models here"
    for model in settings.worker_models:
        if model in left_out:
            return Finding.failed(
                check,
                f"a worker here can't offer {model}: {left_out[model]}",
                "mend that, or take it out of MASKLINE_WORKER_MODELS",
            )
    return Finding.ok(check, f"left out: {', '.join(left_out) or 'none'}")


def _weights(settings: Settings, runnable: Mapping[str, ModelSpec]) -> Finding:
    check = "weights"
    store = WeightStore(settings.weights_dir)
    chosen = [runnable[model] for model in settings.worker_models or runnable if model in runnable]
    whole, absent = [], []
    for spec in chosen:
        if spec.weights is None:
            continue
        try:
            # Of models that nobody chose by name, those that were never fetched are no fault.
            if not settings.worker_models and not store.place(spec).exists():
                absent.append(spec.id)
                continue
            store.verify(spec)
        except (WeightsUnusable, OSError) as error:
            is_own = spec.weights.path is not None
            mending = "put the right weights there, or change the catalog"
            return Finding.failed(check, str(error), mending if is_own else f"maskline models pull {spec.id}")
        whole.append(spec.id)
    told = f"whole: {', '.join(whole) or 'none'}"
    return Finding.ok(check, f"{told}; not fetched: {', '.join(absent)}" if absent else told)
