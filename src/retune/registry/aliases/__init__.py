"""The aliases of a registered model: which version each names, and what moves it."""
