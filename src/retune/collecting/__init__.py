"""Collecting pages: from addresses or local files to documents, pairs and an outcome per page."""
