"""Measurements: ``python -m bench`` prints each figure beside its target, ``python -m bench.NAME`` a part."""
