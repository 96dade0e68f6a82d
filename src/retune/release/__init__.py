"""What is told about a run and its model: summary, report, model card."""
