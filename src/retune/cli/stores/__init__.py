"""Commands on a store as a whole: read through, cleaned up, sent on."""
