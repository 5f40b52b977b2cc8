import contextlib
import importlib.util
import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from depthsearch import CategoricalDepth, conv_resnet, mlp_resnet
from depthsearch.running import folders as runs

HERE = Path(__file__).parent
EXPERIMENTS = HERE.parent / "experiments"


def load(name, prefix="scan_", folder=EXPERIMENTS):
    """The scan script of that name as a module, not run; with no prefix any script of `experiments` or `folder`."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{prefix}{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def script(name, *arguments, prefix=""):
    """Runs a script of `experiments` in this process, which saves the seconds that importing torch takes."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            load(name, prefix).main(list(map(str, arguments)))
        except SystemExit as stop:
            code = stop.code or 0
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def scan_script(*arguments, name="max_depth_spirals"):
    """Runs a scan script in this process."""
    return script(name, *arguments, prefix="scan_")


@pytest.fixture(scope="module")
def no_gpu():
    """A GPU adds in an order of its own each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 0)
        yield


def stop_after(epochs):
    """In the place of `workers._stopping`: says stop from that question on."""

    @contextlib.contextmanager
    def stopping():
        asked = iter(range(10**9))
        yield lambda: next(asked) >= epochs

    return stopping


def contents(results):
    """Every finished run: its summary without the seconds, and its weights."""
    found = {}
    for folder in runs.run_folders(results):
        summary = json.loads((folder / "summary.json").read_text()) | {"seconds": None}
        state = torch.load(folder / "weights.pt", weights_only=True)
        weights = {f"{a}.{b}": t for a, part in state.items() for b, t in part.items()}
        found[folder.relative_to(results)] = (summary, weights)
    return found


def assert_same(ours, theirs, but=()):
    """Equal `contents`, bit for bit, but for weights whose names end so."""
    assert ours.keys() == theirs.keys() and ours
    for folder, (summary, weights) in ours.items():
        assert summary == theirs[folder][0], folder
        assert weights.keys() == theirs[folder][1].keys(), folder
        for name, tensor in weights.items():
            if not name.endswith(but):
                assert torch.equal(tensor, theirs[folder][1][name]), (folder, name)


@pytest.fixture(params=["mlp", "conv"])
def parity(request):
    """The original code's numbers for one small network, and our network and posterior with its parameters."""
    with np.load(HERE / "parity" / f"{request.param}.npz", allow_pickle=False) as file:
        numbers = {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}
    if request.param == "mlp":
        network = mlp_resnet(max_depth=4, width=6)
    else:
        network = conv_resnet(max_depth=3, outer_width=8, inner_width=4)
    depth = CategoricalDepth(numbers["prior"])
    state = {k.removeprefix("param:"): v for k, v in numbers.items() if k.startswith("param:")}
    depth.double().load_state_dict({"q_logits": state.pop("q_logits")}, strict=False)
    missing, unexpected = network.double().load_state_dict(state, strict=False)
    assert not unexpected and not set(missing) & {name for name, _ in network.named_parameters()}
    return numbers, network, depth


@pytest.fixture
def logits():
    """Logits (D + 1, B, C) and targets (B,) in float64."""
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(6, 9, 3, dtype=torch.float64, generator=generator),
        torch.randint(0, 3, (9,), generator=generator),
    )


def complete(tables):
    """The tables, each with the columns that it always has, and one without rows for each that is missing."""
    from depthsearch.reporting.tables.schema import FAMILIES, empty, with_all_columns

    there = {name: with_all_columns(name, table) for name, table in tables.items()}
    return {name: empty(name) for family in FAMILIES for name in family.tables} | there
