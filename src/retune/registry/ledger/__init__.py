"""The ledger of a registered model: what was decided, by whom and why; one writer at a time."""
