"""Text-to-SQL scores; kept empty because the sandbox's worker imports it at every start."""
