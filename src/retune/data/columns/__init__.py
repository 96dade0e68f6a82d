"""Figures that rows are compared by: a column has an element per row, in memory or on disk."""
