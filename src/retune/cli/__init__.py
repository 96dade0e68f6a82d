"""The `retune` command: parses, calls a flow or a domain function, prints.

Nothing heavy is imported here or in `app`: ``retune --help`` answers at once, and each command
imports what it needs.
"""

from retune.cli.app import main

__all__ = ["main"]
