"""Prints the peak memory, in MB, of a process that runs Segment Anything's ViT-B encoder once."""

import resource

import numpy as np
from segment_anything import SamPredictor, sam_model_registry

SamPredictor(sam_model_registry["vit_b"]()).set_image(np.zeros((3000, 4000, 3), np.uint8))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
