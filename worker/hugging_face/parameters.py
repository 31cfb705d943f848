"""What can be asked of a ``transformers`` model, and what its catalog entries say."""

from typing import Annotated

from pydantic import Field

from maskline.requests import Subtask
from worker.family import CommonParameters
from worker.torch_options import TorchOptions


class Options(TorchOptions):
    """What a catalog entry of this family says."""

    subtasks: Annotated[tuple[Subtask, ...], Field(min_length=1)] = (Subtask.SEMANTIC,)
    """What the model was trained for; the first is the default."""


class Parameters(CommonParameters):
    """Parameters of the ``transformers`` family; the thresholds mean what the library's do.

    Those that mean nothing to the job's subtask are ignored.
    """

    confidence_threshold: float = Field(default=0.0, ge=0, le=1)
    """A pixel whose best category is less probable than this is background. At 0 every pixel keeps what the
    library gives it."""
    threshold: float = Field(default=0.5, ge=0, le=1)
    """Instance and panoptic: segments of which the model is less sure than this are left out."""
    mask_threshold: float = Field(default=0.5, ge=0, le=1)
    """Instance and panoptic: from which probability on a pixel counts for the area that a segment claims."""
    overlap_mask_area_threshold: float = Field(default=0.8, ge=0, le=1)
    """Instance and panoptic: a segment that keeps no more than this part of the area that it claims, because
    others cover it, is left out."""
    fuse_stuff: bool = True
    """Panoptic: whether all parts of one kind of stuff are one segment."""
    overlapping: bool = True
    """Instance: whether segments may overlap. If not, what several claim belongs to the last of them, as in
    the library's own map; nothing may be left of one."""
