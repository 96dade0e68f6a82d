"""Importing large libraries without a look at every object again and again."""

from __future__ import annotations

import gc
import importlib
from types import ModuleType


def import_at_once(name: str) -> ModuleType:
    """Import a module with Python's collector of cycles at rest, and take what came for permanent.

    Torch, transformers and trl make a million objects that live as long as the process. Going
    through them while they come is a fifth of the time that importing takes, and going through
    them later a part of every training and scoring.

    Args:
        name: Dotted name of the module.

    Returns:
        The module.

    Raises:
        ImportError: There is no such module, or one that it needs cannot be imported.
    """
    was_at_work = gc.isenabled()
    gc.disable()
    try:
        module = importlib.import_module(name)
        gc.freeze()
    finally:
        if was_at_work:
            gc.enable()
    return module
