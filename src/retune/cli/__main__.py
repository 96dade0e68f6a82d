"""``python -m retune.cli`` is `retune`."""

from retune.cli import main

main()
