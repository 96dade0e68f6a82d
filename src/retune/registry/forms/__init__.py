"""The forms that a model is released in: how each becomes a version, and how it is read again."""
