"""Whether training a challenger is worth it now: triggers, and what holds them back."""
