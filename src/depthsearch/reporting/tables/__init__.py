"""From run folders to tidy tables.

A module for each kind of run `collect`s its tables (`depth_scans`, `comparison`, `rates`, `searches`, `chains`,
`genotypes`, `prediction`, `variations`); the others are for all: which tables there are (`schema`), on disk (`files`),
of several machines (`joining`), which are `shown`.
"""
