"""Which seeds are for what."""

CHOOSING = 100  # from this one on they choose a learning rate or a variation; those below are for what is then shown
