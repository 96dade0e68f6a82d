"""Rules that written answers are checked by: each a figure, the part that keeps to it."""
