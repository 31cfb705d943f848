"""Batches: one worker leads, which cuts their parts into chunks and tells of what came; all run chunks."""
