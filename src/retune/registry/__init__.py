"""The model registry. Importing this loads neither mlflow nor torch."""

from retune.registry.registering import is_registered, register_model
from retune.registry.versions import CHALLENGER, CHAMPION, find_opponent

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "find_opponent",
    "is_registered",
    "register_model",
]
