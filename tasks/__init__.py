"""Ring 2: stages as Prefect tasks: names, cache, retries, tags, progress, where a stage runs."""
