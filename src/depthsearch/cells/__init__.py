"""Spaces of operations: networks in which choices are open, the networks that they become, architectures as values."""
