"""SQL of SQLite: its words, its canonical form, and running it safely."""
