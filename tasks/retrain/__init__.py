"""Tasks of the flow retrain: whether a challenger is worth it, a person's answer, how it ended."""
