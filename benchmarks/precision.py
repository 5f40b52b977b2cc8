"""Whether the fast path changes the results: float32, eager, against the default, paired over seeds.

    python benchmarks/precision.py [--data-set digits] [--depth 5] [--epochs 20] [--seeds 4] [--data DIR]

The same networks on the same data in the same order, trained by both; test error and log-likelihood of LDN-95, both
evaluated in float32. The default is bfloat16 where the hardware multiplies in it, compiled where there is a compiler.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

from depthsearch.hardware import benchmark_header, can_compile, precision_of, products_in
from depthsearch.learning.loop import train
from depthsearch.measuring.depths import evaluate
from depthsearch.reporting.intervals import interval_of
from depthsearch.running.folders import DATA
from depthsearch.running.options import pick_device
from depthsearch.studies.depth import seeded
from depthsearch.studies.images import Images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-set", default="digits")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--device", type=pick_device, default="0", help="CUDA device index; the CPU where no GPU is")
    options = parser.parse_args()
    device = options.device
    fast = precision_of("auto", device)
    ways = {"float32, eager": ("float32", False), f"{fast}, default": (fast, can_compile(device))}
    setting = Images(max_depth=options.depth, data_set=options.data_set, protocol="fair")
    rows = []
    for seed in range(options.seeds):
        split = setting.split(seed, options.data).to(device)
        for name, (precision, compiled) in ways.items():
            training = replace(setting.training, epochs=options.epochs, precision=precision)
            network, depth = seeded(seed, setting.network).to(device), setting.posterior().to(device)
            with products_in(precision):
                (trained,) = train([network], [depth], [split], training, [seed], compiled=compiled)
            values = evaluate(trained.network, trained.depth, split)["variants"]["LDN-95"]
            rows.append({"way": name, "seed": seed, "chosen depth": values["depth"]})
            rows[-1] |= {"error (%)": 100 * values["test_error"], "log-likelihood": values["test_log_likelihood"]}
            print(name, seed, file=sys.stderr)
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    table = pd.DataFrame(rows).set_index(["way", "seed"])
    exact, quick = (table.loc[name] for name in ways)
    print(f"\n{benchmark_header(device)}\n{setting}, {options.epochs} epochs, n = {options.seeds} seeds")
    for column in ("error (%)", "log-likelihood"):
        mean, low, high, _ = interval_of(quick[column] - exact[column])
        print(
            f"{column}: float32 {exact[column].mean():.3f} ± {exact[column].std():.3f} over seeds, default "
            f"{quick[column].mean():.3f} ± {quick[column].std():.3f}; default minus float32 {mean:+.3f} "
            f"[{low:+.3f}, {high:+.3f}] (95 % interval)"
        )


if __name__ == "__main__":
    main()
