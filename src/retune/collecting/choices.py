"""What a person chooses between when pages are collected; the command line reads it at start."""

from __future__ import annotations

from typing import Literal

RowKind = Literal["pairs", "sentences", "documents"]

ProviderName = Literal["http", "brightdata"]
