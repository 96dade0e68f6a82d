"""The model registry. Importing this loads neither mlflow nor torch."""

from retune.registry.registering import is_registered, register_model
from retune.registry.versions import CHALLENGER, CHAMPION, find_opponent, locate_version

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "find_opponent",
    "is_registered",
    "locate_version",
    "register_model",
]
