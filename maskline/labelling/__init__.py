"""Labelling a data set of this machine by a service: images go up and results come down while the model runs.

``folder`` keeps what came and what is needed to go on, ``uploading`` and ``downloading`` each have a thread,
and ``labelling`` brings them together.
"""
