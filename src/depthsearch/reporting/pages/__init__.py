"""Pages of results, from tables: every number on them is computed, none is typed."""
