"""Celery tasks in, artifacts out: loads the image, runs the model, renders and stores the masks."""
