import contextlib
import importlib.util
import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from depthsearch import CategoricalDepth, conv_resnet, mlp_resnet

HERE = Path(__file__).parent
EXPERIMENTS = HERE.parent / "experiments"


def load(name):
    """The scan script of that name as a module, not run."""
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"scan_{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scan_script(*arguments, name="max_depth_spirals"):
    """Runs a scan script in this process, which saves the seconds that importing torch takes."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            load(name).main(list(map(str, arguments)))
        except SystemExit as stop:
            code = stop.code
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


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
