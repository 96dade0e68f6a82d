"""One training on several devices: its processes, their parts of the rows, parts of a model."""
