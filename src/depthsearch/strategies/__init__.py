"""Ways of choosing, by name.

Of choosing a depth `METHODS` are trained in one run, `SEARCHES` look into a pool of trained networks. `ARCHITECTS`
choose in any space, driven by `Search`. Adding a method is a file with a subclass of `Method` (of `Mixing`, if it mixes
options) and a line here.
"""

from depthsearch.learning.method import Method
from depthsearch.strategies.bayesian import ExactPosterior, MarginalLikelihood, Normal, Poisson
from depthsearch.strategies.darts import Darts
from depthsearch.strategies.drnas import DrNAS
from depthsearch.strategies.mixing import Mixing
from depthsearch.strategies.pool_search import SEARCHES

TUNED = 0.003  # learning rate of alpha on spirals, by `scan_strategy_rates.py`; the papers have 3e-4 and 6e-4

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

# With the papers' learning rate of alpha, 3e-4: a search that is much shorter than theirs needs a larger one. "(paper)"
# is to the letter, accidents of the released code included, which the others have corrected; but for the loss that the
# second order looks ahead by on texts (`TextParts`).
ARCHITECTS: dict[str, Mixing] = {
    "DARTS (paper)": Darts(faithful=True),
    "DARTS": Darts(),
    "DARTS 2nd order (paper)": Darts(order=2, faithful=True),
    "DARTS 2nd order": Darts(order=2),
    "DARTS exact": Darts(order="exact"),
    "DrNAS (paper)": DrNAS(faithful=True),
    "DrNAS": DrNAS(),
    "DrNAS progressive (paper)": DrNAS(warm_up=0.2, faithful=True),
    "DrNAS progressive": DrNAS(warm_up=0.2),
}

__all__ = ["ARCHITECTS", "METHODS", "SEARCHES", "TUNED"]
