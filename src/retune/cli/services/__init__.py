"""Servers, workers and deployments that a command starts, asks, or reads the settings of."""
