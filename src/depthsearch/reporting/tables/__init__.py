"""From run folders to tidy tables: a module for each kind of run, which `collect`s its tables."""
