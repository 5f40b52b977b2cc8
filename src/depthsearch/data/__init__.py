"""Seeded tensors: what is learnt from."""
