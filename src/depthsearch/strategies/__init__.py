"""Ways of choosing a depth, by name: `METHODS` are trained in one run, `SEARCHES` look into a pool of trained networks.

Adding a method is a file with a subclass of `training.Method` and a line here.
"""

from depthsearch.learning.method import Method
from depthsearch.strategies.bayesian import ExactPosterior, MarginalLikelihood, Normal, Poisson
from depthsearch.strategies.darts import Darts
from depthsearch.strategies.drnas import DrNAS
from depthsearch.strategies.search import SEARCHES

TUNED = 0.02  # learning rate of alpha: the paper's 3e-4 leaves the weights of the depths all but uniform here

METHODS: dict[str, Method] = {
    "LDN": Method(),
    "marginal likelihood": MarginalLikelihood(),
    "exact posterior": ExactPosterior(),
    "Poisson": Poisson(),
    "normal": Normal(),
    "DARTS (paper)": Darts(learning_rate=3e-4),
    "DARTS": Darts(learning_rate=TUNED),
    "DARTS 2nd order": Darts(learning_rate=TUNED, order=2),
    "DrNAS": DrNAS(learning_rate=TUNED, weight_decay=0.0, regulariser=1e-3, warm_up=0.2),
}

__all__ = ["METHODS", "SEARCHES"]
