"""Flows in a terminal: a line per stage, what came of it, and Ctrl-C."""
