"""Trains genotypes (names, JSON files, run folders of a search) from scratch, by default as the paper of DARTS does.

python experiments/train_genotype.py 0 --genotype DARTS_V2                                # on CIFAR-10
python experiments/train_genotype.py 0 --data-set PTB --genotype DARTS_V2_RNN LSTM random:0   # cells and controls
"""

from depthsearch.learning.single import Recipe
from depthsearch.running.scan import run_scan
from depthsearch.studies.genotypes import PRESETS, TrainGenotype

GRID = [PRESETS["DARTS"]]
SMALL = {"channels": 4, "layers": 3, "auxiliary": False, "cutout": 2}
QUICK = [TrainGenotype(data_set="digits", recipe=Recipe(epochs=4, batch_size=64, drop_path=0.1), **SMALL)]


def main(argv: list[str] | None = None) -> None:
    run_scan("train_genotype", GRID, "genotype", QUICK, flag="genotype", argv=argv, about=__doc__)


if __name__ == "__main__":
    main()
