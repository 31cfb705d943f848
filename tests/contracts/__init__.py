"""What every maker of a port must do; each suite runs on the in-memory double and on the real driver."""
