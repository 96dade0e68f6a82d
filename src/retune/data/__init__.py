"""Rows: reading them, splitting them, and turning them into chats with a loss mask."""
