"""What the options before the command say."""

debug: bool = False
"""Show tracebacks and all logs."""
