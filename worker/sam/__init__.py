"""Segment Anything: the parameters, which need no torch, and the segmenter, which does."""
