"""The model registry: which version is champion, and in which form it is kept."""
