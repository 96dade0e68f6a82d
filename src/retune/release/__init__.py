"""What lets a model out, and what is told about it: gate, report, model card."""
