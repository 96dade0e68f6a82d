"""Ring 1: order only. A flow reads like a table of contents."""
