"""Fetching pages politely: who fetches, what a host allows, how long to wait, what is kept."""
