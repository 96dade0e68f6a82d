"""Rows as chats: templates, rendering, token ids, loss masks, and the audit of every row."""
