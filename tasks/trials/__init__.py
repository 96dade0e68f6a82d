"""Trials of one recipe side by side: opened, spread, run one by one, and reported."""
