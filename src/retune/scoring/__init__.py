"""Scores that can be trusted: each scorer is a pure module with its definition in its docstring."""
