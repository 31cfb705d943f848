"""The drivers behind ``maskline.ports``, and in-memory doubles of them."""
