"""The paper's idea: networks that return the logits of every depth, distributions over depth, objective, pruning."""
