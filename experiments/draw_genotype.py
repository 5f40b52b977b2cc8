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
    parser.add_argument("--output", type=Path, help="a .png, .pdf or .svg file (default: the genotype's name, as PNG)")
    parser.add_argument("--engine", choices=ENGINES, help="default: dot where it is installed")
    args = parser.parse_args(arguments)
    name = Path(args.genotype).stem if args.genotype in GENOTYPES or os.path.exists(args.genotype) else "genotype"
    output = args.output or Path(f"{name}.png")
    try:
        engine = draw(genotype(args.genotype), output, args.engine)
    except (ValueError, OSError) as problem:
        print(f"{parser.prog}: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"{output} (by {engine})")


if __name__ == "__main__":
    main()
