"""Models: devices and dtypes, quantizing, loading, adapting and merging."""
