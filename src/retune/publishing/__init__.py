"""Giving a registered version away: folders that other programs load, and the hub."""
