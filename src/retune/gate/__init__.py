"""What decides whether a challenger becomes champion: gains, guards, slices, and what they need."""
