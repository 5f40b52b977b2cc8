"""How far the scans of a results folder are.

    python -m depthsearch.running.status [results folder]

A row a setting, a column a repeat: done, running (where, how far, how long still), interrupted, diverged.
"""

import argparse
import re
from datetime import timedelta
from pathlib import Path

import pandas as pd

from depthsearch.running.folders import CHECKPOINT, RESULTS, SUMMARY, read_checkpoint, read_run
from depthsearch.running.leases import holder


def status(results: Path) -> pd.DataFrame:
    """What `python -m depthsearch.running.status` prints: index scan, data set and setting; a column a repeat."""
    rows: dict[tuple[str, str, str], dict[int, str]] = {}
    for folder in (results / "runs").glob("*/*/*/version_*"):
        if not folder.name.removeprefix("version_").isdigit():  # a copy that somebody made
            continue
        setting = folder.parent
        key = (setting.parents[1].name, setting.parent.name, setting.name)
        rows.setdefault(key, {})[int(folder.name.removeprefix("version_"))] = state(folder)
    table = pd.DataFrame.from_dict(rows, orient="index").fillna("").sort_index(axis=1)
    table = table.loc[sorted(table.index, key=_by_numbers)]
    table.index = pd.MultiIndex.from_tuples(table.index, names=["scan", "data set", "setting"])
    return table.rename(columns=lambda repeat: f"repeat {repeat}")


def state(folder: Path) -> str:
    """Of one run, in a few words."""
    if (folder / SUMMARY).exists():
        run = read_run(folder)
        if run is None:
            return "damaged"
        diverged = run[1].get("diverged_epoch")
        return "done" if diverged is None else f"diverged at {diverged}"
    owner = holder(folder)
    if owner is not None:
        return f"running {_progress(owner)} on {owner.get('host', '?')}:{owner.get('pid', '?')}"
    try:
        saved = read_checkpoint(folder / CHECKPOINT)
    except FileNotFoundError:
        return "done" if (folder / SUMMARY).exists() else "interrupted"  # just now
    return "interrupted" if saved is None else f"interrupted at {saved.get('epoch', '?')}"


def _progress(owner: dict) -> str:
    if "epochs" not in owner:
        return "from now on"
    epoch, epochs = owner["epoch"], owner["epochs"]
    trained = epoch - owner.get("resumed_at", 0)
    if not trained:
        return f"{epoch}/{epochs}"
    left = (epochs - epoch) * (owner["renewed"] - owner["since"]) / trained
    return f"{epoch}/{epochs}, at most {timedelta(seconds=round(left))} left"


def _by_numbers(key: tuple[str, ...]) -> list[tuple[int, str]]:
    # LDN_depth5 before LDN_depth10
    return [(int(part or 0) if part.isdigit() else -1, part) for name in key for part in re.split(r"(\d+)", name)]


def main() -> None:
    parser = argparse.ArgumentParser(description="How far the scans of a results folder are.")
    parser.add_argument("results", nargs="?", default=str(RESULTS), help="results folder (default %(default)s)")
    results = Path(parser.parse_args().results)
    if next((results / "runs").glob("*/*/*/version_*"), None) is None:
        parser.exit(2, f"{parser.prog}: no runs in {results / 'runs'}\n")
    table = status(results)
    print(table.to_string(sparsify=False))
    cells = pd.Series([cell.split()[0] for cell in table.to_numpy().flat if cell])
    print("\n" + ", ".join(f"{n} {what}" for what, n in cells.value_counts().items()))


if __name__ == "__main__":
    main()
