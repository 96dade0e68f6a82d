"""One run of a flow: opened, its stages as Prefect tasks, watched, and ended."""
