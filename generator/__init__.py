"""The generator of what ships in `assets/`: datasets, tokenizer and tiny base, made from nothing.

``make base`` runs it once in the life of a base. It stands on retune; retune does not know it.
"""
