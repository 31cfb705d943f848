"""Maskline: images in, segmentation masks out, asynchronously."""
