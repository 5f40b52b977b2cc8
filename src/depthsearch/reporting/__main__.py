"""Tables and pages from finished runs: `python -m depthsearch.reporting [RESULTS] [--add DIR ...]`.

Writes `tables/*.csv` and the pages of a results folder (`README.md`, `strategies.md`, `learnt_depth.md`, `cells.md`,
`genotypes.md`, `predictor.md`), and for the clone's own the results section of the README. Runs that the tables know
and this machine does not have stay in them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from depthsearch.data.files import written_whole
from depthsearch.reporting.maps import store_maps
from depthsearch.reporting.pages.cells import cells_page
from depthsearch.reporting.pages.genotypes import genotypes_page
from depthsearch.reporting.pages.learnt_depth import learnt_depth_page
from depthsearch.reporting.pages.predictor import predictor_page
from depthsearch.reporting.pages.readme import insert_into_readme, readme_part
from depthsearch.reporting.pages.results import benchmarks_part, results_page
from depthsearch.reporting.pages.strategies import details, strategies_part
from depthsearch.reporting.parts import ldn_and_ddn
from depthsearch.reporting.tables import (
    chains,
    comparison,
    depth_scans,
    genotypes,
    prediction,
    rates,
    searches,
    variations,
)
from depthsearch.reporting.tables.files import known_runs, nonempty, stored_tables, write_tables
from depthsearch.reporting.tables.joining import join
from depthsearch.reporting.tables.schema import CELLS, CHAINS, RUNS, TRAININGS, Family, Tables
from depthsearch.reporting.tables.shown import shown
from depthsearch.reporting.words import not_shown
from depthsearch.running.folders import RESULTS
from depthsearch.studies.nasbench201 import NASBench201Cell


def main(argv: Sequence[str] | None = None) -> None:
    about, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser("python -m depthsearch.reporting", description=about, epilog=more)
    parser.add_argument("results", nargs="?", type=Path, default=RESULTS, help="default: that of the clone")
    parser.add_argument(
        "--add",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="DIR",
        help="results folders of other machines, whose runs or tables join those at hand; each run once",
    )
    options = parser.parse_args(argv)
    try:
        found = gathered(options.results, options.add)
    except FileNotFoundError as problem:
        print(f"{parser.prog}: {problem}; run a scan first", file=sys.stderr)
        raise SystemExit(2) from None
    written = write_tables(options.results, found)
    # Of the numbers as they stand in the tables, so that a machine without the runs makes the same pages.
    write_pages(options.results, stored_tables(options.results, tuple(found)))
    print(*written, sep="\n")


def gathered(results: Path, added: Sequence[Path] = ()) -> Tables:
    """All tables of a results folder, with the runs of others in them; conflicts are printed and change nothing.

    Raises:
        FileNotFoundError: there is nothing, or nothing in one of the added.
    """
    found: Tables = {}
    for place in (results, *added):
        more = depth_scans.all_tables(place)
        for kind in (comparison, rates, searches, chains, prediction, genotypes, variations):
            more |= known_runs(place, kind.collect)
        if place != results or not added:
            nonempty(more, place)
        found, conflicts = join(found, more)
        for line in conflicts:
            print(f"{place}: {line}", file=sys.stderr)
    return comparison.with_retrained(found)


def write_pages(results: Path, found: Tables) -> None:
    """Writes the pages of a results folder, and its map of the plane where the run is at hand."""
    scans, others = shown({name: found[name] for name in RUNS.tables})
    store_maps(results, scans["runs"])
    choices, left = comparison.shown_tables(found)
    strategies = strategies_part(choices, left) if len(choices["strategies"]) else f"(not run){not_shown(left)}"
    _write(results / "README.md", results_page(scans, found, others, strategies, benchmarks_part(results)))
    if len(choices["strategies"]):
        _write(results / "strategies.md", details(choices, found["strategies_tuning"]))
    if len(found["predictor_runs"]):
        _write(results / "predictor.md", predictor_page(*prediction.shown_tables(found)))
    if len(found["cells"]):
        _write(results / "cells.md", cells_page(*shown(_of_space(found, (CELLS, CHAINS), known=True))))
    if len(found["variations"]):
        part, left = shown({"variations": found["variations"]})
        networks = ldn_and_ddn(scans["runs"], "spirals")
        _write(results / "learnt_depth.md", learnt_depth_page(part["variations"], *networks, left))
    trained, left = shown(_of_space(found, (TRAININGS, CELLS), known=False))
    if len(trained["genotypes"]) or len(trained["cells"]):
        _write(results / "genotypes.md", genotypes_page(trained["genotypes"], trained["cells"], left))
    if results.resolve() == RESULTS.resolve():
        insert_into_readme(RESULTS.parent / "README.md", readme_part(scans, choices))


def _write(path: Path, page: str) -> None:
    with written_whole(path) as part:
        part.write_text(page, encoding="utf-8")


def _of_space(found: Tables, families: Sequence[Family], known: bool) -> Tables:
    """Some of the tables, of searches the rows of NAS-Bench-201, whose cells are `known`, or all others."""
    part = {name: found[name] for family in families for name in family.tables}
    of_searches = {name: part[name] for name in CELLS.tables}
    return part | {name: t[(t["space"] == NASBench201Cell.name) == known] for name, t in of_searches.items()}


if __name__ == "__main__":
    main()
