"""Tables of several machines and configurations, from run folders made up for it: nothing is trained."""

import errno
import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from depthsearch.reporting.__main__ import main
from depthsearch.reporting.tables import comparison
from depthsearch.reporting.tables.depth_scans import all_tables, read_tables
from depthsearch.reporting.tables.files import known_runs, stored_tables, write_tables
from depthsearch.reporting.tables.schema import RUNS
from depthsearch.running.study import fingerprint, folder_name
from depthsearch.studies.choices import SpiralChoice
from depthsearch.studies.spirals import Spirals

METRICS = ("error", "log_likelihood", "brier", "ece", "mean_true_class_probability", "paper_ece")
SCAN = "scan_max_depth_spirals"


def make_run(
    results, study, seed, error=0.1, scan=SCAN, swept="max_depth", training=None, started="2026-01-01", **more
):
    """A run folder as a scan leaves it, but for weights; `training` are changes to how it is trained."""
    configuration = study.configuration()
    configuration["training"] |= training or {}
    name = f"{study.title()}-{fingerprint(configuration)}"
    folder = results / "runs" / scan / configuration["data_set"] / name / f"version_{seed}"
    config = {"scan": scan, "seed": seed, "swept": swept, "started": started, "hash": fingerprint(configuration)}
    config |= {"configuration": configuration, "required": ["variants"], "replicates": 1}
    config |= {"device": {"name": "CPU (made up)", "threads": 1}}
    found = {f"{split}_{m}": -error if m == "log_likelihood" else error for split in ("train", "test") for m in METRICS}
    depths = [{"depth": d, "q": 1 / (study.max_depth + 1), "prior": 0.5, "exact_posterior": 0.5} for d in (0, 1)]
    summary = {"pruned_depth": 1, "expected_depth": 1.0, "kl_to_exact": 0.0, "parameters": 9, "pruned_parameters": 5}
    summary |= {"best_epoch": 2, "epochs": 2, "seconds": {"training_seconds": 1.0}, "depths": depths}
    summary |= {"history": [{"epoch": e, "test_error": error, "depth_entropy": 1.0} for e in (1, 2)]}
    summary |= {"variants": {"LDN-95": {"depth": 1, **found}, "LDN-full": {"depth": 1, **found}}}
    summary |= {"reliability": {"LDN-95": {"count": [3], "confidence": [0.9], "accuracy": [0.8]}}}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "summary.json").write_text(json.dumps(summary | more))


def grid(results, depths=(2, 3), seeds=(0, 1), protocol="paper", **how):
    for depth in depths:
        for seed in seeds:
            make_run(results, Spirals(max_depth=depth, protocol=protocol), seed, **how)


def tables_on_disk(results):
    return {path.name: path.read_text() for path in sorted((results / "tables").glob("*.csv"))}


def errors(results):
    runs = read_tables(results)["runs"]
    return dict(zip(zip(runs["max_depth"], runs["seed"], strict=True), runs["LDN-95_test_error"], strict=True))


def test_a_row_keeps_its_configuration(tmp_path):
    grid(tmp_path)
    grid(tmp_path, training={"learning_rate": 0.05})
    runs = all_tables(tmp_path)["runs"]
    assert set(runs["configuration"]) == {name.rpartition("-")[2] for name in folders(tmp_path)}
    assert runs["configuration"].nunique() == 4  # two depths, two rates
    by_cohort = runs.groupby("cohort")
    assert by_cohort["max_depth"].unique().map(list).tolist() == [[2, 3], [2, 3]]
    assert (by_cohort["configuration"].nunique() == 2).all() and set(runs["started"]) == {"2026-01-01"}
    assert folder_name(Spirals(max_depth=2)) in folders(tmp_path)


def folders(results):
    return {path.name for path in (results / "runs").glob("*/*/*")}


def test_runs_from_elsewhere_are_added_once(tmp_path, capsys):
    here, there = tmp_path / "here", tmp_path / "there"
    grid(here, seeds=(0, 1))
    grid(there, seeds=(1, 2))
    main([str(here), "--add", str(there)])
    assert sorted(errors(here)) == [(d, r) for d in (2, 3) for r in (0, 1, 2)]
    assert all_tables(here)["curves"].empty and len(all_tables(here)["reliability"]) == 6  # curves are of images
    once, page = tables_on_disk(here), (here / "README.md").read_text()
    main([str(here), "--add", str(there), str(there)])
    main([str(here)])
    assert tables_on_disk(here) == once and (here / "README.md").read_text() == page
    assert capsys.readouterr().err == ""


def test_tables_from_elsewhere_are_added_as_well_as_runs(tmp_path):
    here, there, tables = (tmp_path / name for name in ("here", "there", "tables"))
    grid(here, seeds=(0,))
    grid(there, seeds=(1, 2))
    main([str(there)])
    (tables / "tables").mkdir(parents=True)
    for path in (there / "tables").glob("*.csv"):
        shutil.copy(path, tables / "tables")
    main([str(here), "--add", str(tables)])
    assert sorted(errors(here)) == [(d, r) for d in (2, 3) for r in (0, 1, 2)]
    main([str(tmp_path / "nothing yet"), "--add", str(there)])
    assert errors(tmp_path / "nothing yet") == errors(there)


def test_a_conflict_is_named_and_ours_stays(tmp_path, capsys):
    here, there = tmp_path / "here", tmp_path / "there"
    grid(here)
    grid(there, error=0.1 * (1 + 1e-7))  # what six digits do not show
    main([str(here), "--add", str(there)])
    assert capsys.readouterr().err == ""
    shutil.rmtree(there)
    grid(there, depths=(2,), seeds=(1,), error=0.3)
    make_run(there, Spirals(max_depth=3), 0, diverged_epoch=4)
    before = tables_on_disk(here)
    main([str(here), "--add", str(there)])
    number, other = sorted(capsys.readouterr().err.splitlines(), key=len, reverse=True)
    assert number.startswith(f"{there}: {SCAN} spirals LDN 2 ") and "is 0.1 here, 0.3 there; ours is kept" in number
    assert "in runs here, in diverged there; ours is kept" in other
    assert tables_on_disk(here) == before


def test_a_folder_with_neither_runs_nor_tables_is_status_2(tmp_path, capsys):
    grid(tmp_path / "here")
    (tmp_path / "empty").mkdir()
    for arguments in ([tmp_path / "empty"], [tmp_path / "here", "--add", tmp_path / "empty"]):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        (said,) = capsys.readouterr().err.splitlines()
        assert stop.value.code == 2 and f"no finished runs in {tmp_path / 'empty' / 'runs'}" in said
    assert not (tmp_path / "here" / "tables").exists() and not (tmp_path / "empty" / "tables").exists()


def test_rows_of_runs_that_are_gone_stay_and_runs_at_hand_win(tmp_path):
    grid(tmp_path, seeds=(0, 1))
    main([str(tmp_path)])
    before = tables_on_disk(tmp_path)
    shutil.rmtree(tmp_path / "runs")
    main([str(tmp_path)])
    assert tables_on_disk(tmp_path) == before
    grid(tmp_path, seeds=(1,), error=0.7)  # trained again
    grid(tmp_path, seeds=(2,))
    main([str(tmp_path)])
    assert errors(tmp_path) == {(d, r): 0.7 if r == 1 else 0.1 for d in (2, 3) for r in (0, 1, 2)}
    runs = pd.read_csv(tmp_path / "tables" / "runs.csv")
    order = list(zip(runs["max_depth"], runs["seed"], strict=True))
    assert order == [(2, 0), (2, 1), (3, 0), (3, 1), (2, 2), (3, 2)]  # new rows come last


def test_the_newest_complete_cohort_is_shown_and_the_others_are_named(tmp_path):
    grid(tmp_path, error=0.1, started="2026-01-01")
    changed = {"training": {"learning_rate": 0.05}, "error": 0.2, "started": "2026-02-01"}
    grid(tmp_path, depths=(2,), seeds=range(9), **changed)  # many repeats, but of one depth
    assert set(errors(tmp_path).values()) == {0.1}
    grid(tmp_path, depths=(3,), seeds=(0,), **changed)  # of depth 3 one repeat fewer than before
    assert set(errors(tmp_path).values()) == {0.1}
    grid(tmp_path, depths=(3,), seeds=(1,), **changed)
    assert set(errors(tmp_path).values()) == {0.2} and len(errors(tmp_path)) == 11
    main([str(tmp_path)])
    page = (tmp_path / "README.md").read_text()
    assert f"- {SCAN} spirals: 4 runs of at most 8000 epochs, started 2026-01-01." in page
    assert len(all_tables(tmp_path)["runs"]) == 15  # tables keep all
    for name, table in read_tables(tmp_path).items():
        assert name == "diverged" or set(table["configuration"]) < set(all_tables(tmp_path)["runs"]["configuration"])


def test_a_small_trial_never_hides_a_scan(tmp_path):
    grid(tmp_path, error=0.1, started="2026-01-01")
    grid(tmp_path, depths=(2,), training={"epochs": 30}, error=0.2, started="2026-03-01")
    assert set(errors(tmp_path).values()) == {0.1}


def test_a_small_trial_with_points_held_out_is_not_pooled_with_a_scan(tmp_path):
    grid(tmp_path, error=0.1, started="2026-01-01", protocol="fair")
    grid(
        tmp_path,
        depths=(2,),
        seeds=(0, 1, 2),
        training={"epochs": 30},
        error=0.2,
        started="2026-03-01",
        protocol="fair",
    )
    assert set(errors(tmp_path).values()) == {0.1}


def test_rows_stay_where_the_file_of_another_table_is_gone(tmp_path):
    grid(tmp_path)
    main([str(tmp_path)])
    shutil.rmtree(tmp_path / "runs")
    (tmp_path / "tables" / "diverged.csv").unlink()
    grid(tmp_path, seeds=(5,))
    main([str(tmp_path)])
    assert {seed for _, seed in errors(tmp_path)} == {0, 1, 5} and not list(tmp_path.rglob("*.part"))


def test_a_diverged_run_counts_as_made(tmp_path):
    grid(tmp_path, error=0.1, started="2026-01-01")
    grid(tmp_path, depths=(2,), training={"momentum": 0.9}, error=0.2, started="2026-02-01")
    changed = {"training": {"momentum": 0.9}, "started": "2026-02-01", "diverged_epoch": 4}
    for seed in (0, 1):
        make_run(tmp_path, Spirals(max_depth=3), seed, **changed)
    tables = read_tables(tmp_path)
    assert set(tables["runs"]["LDN-95_test_error"]) == {0.2} and tables["diverged"]["max_depth"].tolist() == [3, 3]


def test_tables_of_an_earlier_version_are_read(tmp_path):
    """Those had a number for a configuration, and no cohort."""
    grid(tmp_path)
    main([str(tmp_path)])
    for path in (tmp_path / "tables").glob("*.csv"):
        table = pd.read_csv(path)
        table = table.drop(columns=[c for c in ("cohort", "started") if c in table])
        table.assign(configuration=1).to_csv(path, index=False)
    shutil.rmtree(tmp_path / "runs")
    runs = read_tables(tmp_path)["runs"]
    assert set(runs["configuration"]) == {"1"} and runs["cohort"].nunique() == 1 and set(runs["started"]) == {""}
    grid(tmp_path, error=0.2)
    assert set(errors(tmp_path).values()) == {0.2} and len(all_tables(tmp_path)["runs"]) == 8
    main([str(tmp_path)])
    assert "4 runs of at most 8000 epochs, of an earlier version" in (tmp_path / "README.md").read_text()


def test_a_long_table_is_written_as_it_was_read(tmp_path):
    """pandas reads such a file in pieces, and a piece of nothing but `-0` would have lost its signs."""
    values = [-0.0] * 100_000 + [-0.5] * 100_000
    table = pd.DataFrame({name: values for name in RUNS.tables} | {"configuration": "a1", "cohort": "b2"})
    (path,) = write_tables(tmp_path, {"curves": table})
    before = path.read_bytes()
    assert b"-0," not in before
    stored = stored_tables(tmp_path, ("curves",))
    assert stored and write_tables(tmp_path, stored) == [path] and path.read_bytes() == before


def test_tables_of_the_same_runs_are_all_replaced_or_none(tmp_path, monkeypatch):
    def tables(error):
        return {
            name: pd.DataFrame({"error": [error], "configuration": ["a1"], "cohort": ["b2"]}) for name in RUNS.tables
        }

    def full(table, file, **options):
        if file.name.endswith("curves.part"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return to_csv(table, file, **options)

    paths = write_tables(tmp_path, tables(0.5))
    before = [path.read_bytes() for path in paths]
    to_csv = pd.DataFrame.to_csv
    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(OSError, match="No space left"):
        write_tables(tmp_path, tables(0.25))
    assert [path.read_bytes() for path in paths] == before and len(paths) > 2
    assert sorted((tmp_path / "tables").iterdir()) == sorted(paths)


# The comparison of strategies.


def make_choice(results, kind, seed, value, started="2026-01-01", depth=1, heads={"heads": 2}, **how):  # noqa: B006
    preset = SpiralChoice(kind=kind, max_depth=depth if kind == "DDN" else 2, **how)
    found = {f"{name}_{m}": -value if m == "log_likelihood" else value for name in ("valid", "test") for m in METRICS}
    modes = ("searched",) if kind == "DDN" else ("searched", "truncated")
    costs = {"block_evaluations": 10, "networks": 1, "step_bytes": 5}
    shift = [{"shift": s, "log_likelihood": -1, "error": 0.5, "ece": 0.1, "auroc": 0.5} for s in (0, 1)]
    history = [{"epoch": 1, "depth_entropy": 0, "expected_depth": 1, "pruned_depth": 1, "valid_log_likelihood": -1}]
    more = {"variants": {mode: found | heads for mode in modes}, "costs": costs, "shift": shift}
    more |= {"history": history}
    make_run(results, preset, seed, scan="scan_strategies", swept="group", started=started, **more)


def compare(results, worse=0.0, seeds=(0, 1), **how):
    """LDN chooses depth 1; of the networks on all points that one loses 0.5 + `worse` nats, depth 2 0.5."""
    for seed in seeds:
        make_choice(results, "LDN", seed, 0.3, **how)
        for depth in (1, 2):
            make_choice(results, "DDN", seed, 0.5 + worse * (depth == 1), depth=depth, points="all", **how)


def test_a_cut_to_the_last_head_alone_is_not_known(tmp_path):
    """So versions before cut a posterior; under the same configuration, so that its other numbers stand."""
    make_choice(tmp_path, "LDN", 0, 0.3)
    make_choice(tmp_path, "LDN", 1, 0.4, heads={})
    make_choice(tmp_path, "DARTS", 0, 0.5, heads={})  # a mixture is cut as before
    rows = comparison.collect(tmp_path)["strategies"].set_index(["strategy", "seed"])
    assert rows["searched_log_likelihood"].to_dict() == {("LDN", 0): -0.3, ("LDN", 1): -0.4, ("DARTS", 0): -0.5}
    known = rows["truncated_log_likelihood"].dropna()
    assert known.to_dict() == {("LDN", 0): -0.3, ("DARTS", 0): -0.5}


def test_the_comparison_adds_up_too(tmp_path, capsys):
    here, there = tmp_path / "here", tmp_path / "there"
    compare(here, worse=0.25, seeds=(0,))
    compare(there, worse=0.25, seeds=(0, 1))
    main([str(here), "--add", str(there)])
    once = tables_on_disk(here)
    main([str(here), "--add", str(there)])
    shutil.rmtree(here / "runs")
    main([str(here)])
    assert tables_on_disk(here) == once and capsys.readouterr().err == ""
    tables = comparison.read_tables(here)
    rows = tables["strategies"]
    assert rows["seed"].tolist() == [0, 1] and rows["regret"].tolist() == pytest.approx([0.25, 0.25])
    assert len(tables["strategies_pool"]) == 4 and len(tables["strategies_curves"]) == 2
    compare(there / "other", seeds=(0,))
    make_choice(there / "worse", "LDN", 0, 0.4)
    main([str(here), "--add", str(there / "worse")])
    (said,) = capsys.readouterr().err.splitlines()
    assert "spirals720 LDN 1500" in said and "searched_error is 0.3 here, 0.4 there" in said


def test_a_strategy_is_compared_within_one_way_of_training(tmp_path):
    compare(tmp_path, worse=0.25)
    compare(tmp_path, worse=0.75, seeds=(0,), epochs=99, started="2026-02-01")
    rows = comparison.read_tables(tmp_path)["strategies"]
    assert set(rows["epochs_limit"]) == {1500} and set(rows["regret"].round(6)) == {0.25}
    compare(tmp_path, worse=0.75, seeds=(1,), epochs=99, started="2026-02-01")
    tables = comparison.read_tables(tmp_path)
    assert set(tables["strategies"]["epochs_limit"]) == {99} and set(tables["strategies"]["regret"].round(6)) == {0.75}
    assert {len(tables[name]) for name in comparison.TABLES} == {2, 4}
    kept = comparison.with_retrained(known_runs(tmp_path, comparison.collect))["strategies"]
    assert sorted(kept["regret"].round(6)) == [0.25, 0.25, 0.75, 0.75]
    main([str(tmp_path)])
    assert (
        "- spirals720: 2 runs and 4 networks of the pool of at most 1500 epochs, started 2026-01-01."
        in (tmp_path / "README.md").read_text()
    )


def test_networks_selected_anew_replace_those_before(tmp_path, monkeypatch):
    """Another rule of selection makes other configurations of the same comparison."""
    compare(tmp_path, worse=0.25)
    rule = SpiralChoice.selection.fget
    monkeypatch.setattr(SpiralChoice, "selection", property(lambda study: replace(rule(study), settle=0.25)))
    make_choice(tmp_path, "DDN", 0, 1.5, points="all", started="2026-02-01")
    assert regrets(comparison.read_tables(tmp_path)) == [0.25, 0.25]  # of one repeat: not shown yet
    every = comparison.with_retrained(known_runs(tmp_path, comparison.collect))
    assert regrets(every) == [1.0, 0.25]  # where nothing is chosen, the last
    make_choice(tmp_path, "DDN", 1, 1.5, points="all", started="2026-02-01")
    tables = comparison.read_tables(tmp_path)
    assert len(tables["strategies_pool"]) == 4 and regrets(tables) == [1.0, 1.0]


def regrets(tables):
    return tables["strategies"]["regret"].round(6).tolist()
