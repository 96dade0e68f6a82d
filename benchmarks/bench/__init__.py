"""What retune costs beside the plain ways to do the same, in interleaved rounds."""
