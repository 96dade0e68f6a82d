"""Loaded models: what they write, and what their tokens cost."""
