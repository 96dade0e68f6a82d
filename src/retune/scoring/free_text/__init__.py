"""Figures of answers in free text: those that ship, and a team's own through `evaluate`."""
