"""From tables to verdicts: rules, the claims of the papers, what stands above what."""
