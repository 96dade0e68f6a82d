"""Trials: one recipe with several settings, what each costs and gives, and which to take."""
