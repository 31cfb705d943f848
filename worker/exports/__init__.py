"""One file for each export format; the folder is the registry. The name of ``coco_panoptic.py`` is
``coco-panoptic``, and what a file has is ``worker.exporting.format.ExportFormat``."""
