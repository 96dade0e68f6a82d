"""Serving a model over HTTP as it was scored: the server, the process that computes, the proof."""
