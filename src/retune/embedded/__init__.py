"""The embedded default: datasets, tokenizer and tiny base that this repository makes itself."""
