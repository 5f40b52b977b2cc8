"""Draws the cells of a genotype.

    python experiments/draw_genotype.py DARTS_V2
    python experiments/draw_genotype.py results/runs/.../genotype.json --output cell.pdf

Graphviz draws where its program `dot` is installed, Matplotlib elsewhere.
"""

import argparse
import os.path
import sys
from collections.abc import Sequence
from pathlib import Path

from depthsearch.cells.drawing import ENGINES, draw
from depthsearch.cells.genotype import GENOTYPES, genotype


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("genotype", help=f"a JSON file, a run folder with a genotype.json, or {', '.join(GENOTYPES)}")
    parser.add_argument("--output", type=Path, help="a .png, .pdf or .svg file (default: a PNG named after it)")
    parser.add_argument("--engine", choices=ENGINES, help="default: dot where it is installed")
    args = parser.parse_args(arguments)
    there = Path(args.genotype)
    name = there.stem if args.genotype in GENOTYPES or os.path.exists(there) else "genotype"
    if os.path.isdir(there):  # of a run: the repeat alone is the name of many
        name = f"{there.absolute().parent.name}_{there.name}"
    output = args.output or Path(f"{name}.png")
    try:
        engine = draw(genotype(args.genotype), output, args.engine)
    except (ValueError, OSError) as problem:
        print(f"{parser.prog}: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"{output} (by {engine})")


if __name__ == "__main__":
    main()
