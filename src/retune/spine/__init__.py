"""What every stage stands on: its key, its artifact, its process."""
