"""Which distributions load, quantize and adapt a model."""

from __future__ import annotations

ADAPTED = ("torch", "transformers", "peft", "bitsandbytes")
"""What the key of a stage holds that runs a model with its adapter."""
