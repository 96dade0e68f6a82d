"""Memory of a training, counted before it is paid for."""
