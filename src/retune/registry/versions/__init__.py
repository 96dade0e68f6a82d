"""Versions of a registered model: found, saved, proved, and what is known of each."""
