"""The words of a command line that exports. Imports nothing, so that `retune --help` is quick."""

from __future__ import annotations

from typing import Literal

ExportForm = Literal["adapter", "merged", "gguf"]
NumberType = Literal["auto", "f32", "bf16", "f16", "q8_0"]
