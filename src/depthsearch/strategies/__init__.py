"""Ways of choosing a depth, by name: those trained in one run, and those that search a pool of deterministic networks.

A way that is trained is a `training.Method`; adding one is a file with a subclass and a line here.
"""

from depthsearch.strategies.bayesian import ExactPosterior, MarginalLikelihood, Normal, Poisson
from depthsearch.strategies.darts import Darts
from depthsearch.strategies.drnas import DrNAS
from depthsearch.strategies.search import SEARCHES
from depthsearch.training import Method

# All select the epoch by the log-likelihood of their predictions of the validation points, looked at every 10 epochs on
# spirals (`settings.Strategy`). The learning rates of DARTS are the paper's and one tuned on spirals of 540 degrees.
METHODS: dict[str, type[Method] | Method] = {}
