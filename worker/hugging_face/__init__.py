"""The models of the ``transformers`` library: their loading, and what their outputs mean."""
