"""Rebuild what ships in `assets/`: ``python -m generator``."""

from generator.flow import pretrain

print(pretrain())
