"""Where the texts lie that forgetting is measured on when a recipe names none.

Apart from the scorers, so that a flow can name them without importing torch.
"""

from __future__ import annotations

from pathlib import Path

GENERAL_TEXT = Path(__file__).with_name("general_text.jsonl")
"""A few paragraphs of our own about everyday things, in Portuguese and English."""
