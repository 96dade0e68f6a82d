"""retune: retrain language models on a schedule, and let nothing worse reach production."""

__version__ = "0.1.0"
