"""What can be asked of Segment Anything, and what its catalog entries say."""

from pydantic import Field

from maskline.wire import WireModel
from worker.family import CommonParameters
from worker.torch_options import TorchOptions

VARIANTS = ("vit_b", "vit_l", "vit_h")


class Options(TorchOptions):
    """What a catalog entry of this family says."""

    variant: str
    """A key of ``segment_anything.sam_model_registry``: one of ``VARIANTS``."""


class Everything(WireModel):
    """Parameters of the automatic mode; they mean what ``SamAutomaticMaskGenerator``'s do.

    Beside prompts they are ignored.
    """

    points_per_side: int = Field(default=32, ge=1, le=128)
    """Without prompts: the points of the grid, along each side."""
    points_per_batch: int = Field(default=64, ge=1, le=1024)
    """Without prompts: most points that go through the decoder together; on a CPU never more than 4."""
    pred_iou_threshold: float = Field(default=0.88, ge=0, le=1)
    """Without prompts: masks of which the model thinks less than this are left out."""
    stability_score_threshold: float = Field(default=0.95, ge=0, le=1)
    """Without prompts: masks that change more than this with the cut-off are left out."""
    stability_score_offset: float = Field(default=1.0, ge=0, le=100)
    """Without prompts: how far the cut-off is moved for that, in logits."""
    box_nms_threshold: float = Field(default=0.7, ge=0, le=1)
    """Without prompts: of masks whose boxes overlap more than this the better one is kept."""
    crop_layers: int = Field(default=0, ge=0, le=3)
    """Without prompts: layers of crops that are looked at too; layer i has 4 to the power of i."""
    crop_nms_threshold: float = Field(default=0.7, ge=0, le=1)
    """Without prompts: the same as ``boxNmsThreshold``, between crops."""
    crop_overlap_ratio: float = Field(default=512 / 1500, ge=0, lt=1)
    """Without prompts: how much the crops overlap, as a part of the image's shorter side."""
    crop_points_downscale_factor: int = Field(default=1, ge=1, le=16)
    """Without prompts: by how much each layer's grid is coarser than the one before."""
    min_mask_region_area: int = Field(default=0, ge=0)
    """Without prompts: holes and islands of fewer pixels are removed from masks."""


class Parameters(CommonParameters, Everything):
    """Segment Anything's own parameters."""

    multimask_output: bool | None = None
    """Whether each prompt gets three masks, of which the best by its score counts. Left out: for prompts of a
    single point, which are ambiguous, and for no others."""
