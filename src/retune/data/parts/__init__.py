"""The part that each row has: to learn from or held out, then, now, and without leaks."""
