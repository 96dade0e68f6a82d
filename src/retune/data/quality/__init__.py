"""Quality of rows: what repeats, contradicts, cannot be read or must not be learned."""
