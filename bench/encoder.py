"""Prints the peak memory, in MB, of a process that runs Segment Anything's ViT-B encoder once."""

import numpy as np
from segment_anything import SamPredictor, sam_model_registry

from bench.memory import peak_mb

SamPredictor(sam_model_registry["vit_b"]()).set_image(np.zeros((3000, 4000, 3), np.uint8))
print(peak_mb("self"))
