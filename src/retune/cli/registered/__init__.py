"""Commands on registered models: who is champion, what was decided, a version for others."""
