"""HTTP in, JSON out: validates, stores the image, enqueues, answers. Never sees a pixel."""
