"""A spiral scan through a real Slurm of one node: set up, run, one job put back in the queue half way, taken down.

    python tests/slurm_cluster.py [--folder DIR]

Needs root and Debian's packages slurm-wlm and munge (`apt-get install slurm-wlm munge`); everything else, its keys and
logs too, lies in a folder of its own. Exit status 0 where each run has the numbers of a scan without Slurm.
"""

import argparse
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kills import files, summaries

SCAN = Path(__file__).parents[1] / "experiments" / "scan_max_depth_spirals.py"
OPTIONS = ("--depths", "4", "6", "8", "10", "--repeats", "2", "--epochs", "4000", "--checkpoint-seconds", "1")


def free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]


def settings_of(folder: Path) -> str:
    host, (controller, node) = socket.gethostname(), free_ports(2)
    pairs = {
        "ClusterName": "single",
        "SlurmctldHost": host,
        "SlurmctldPort": controller,
        "SlurmdPort": node,
        "AuthInfo": f"socket={folder}/munge.socket",
        "SlurmUser": "root",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.pid",
        "SlurmctldLogFile": folder / "slurmctld.log",
        "SlurmdLogFile": folder / "slurmd.log",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core",
        "KillWait": 20,
        "ReturnToService": 2,
    }
    node_line = (
        f"NodeName={host} CPUs={os.cpu_count()} State=UNKNOWN\nPartitionName=debug Nodes=ALL Default=YES State=UP"
    )
    return "\n".join(f"{key}={value}" for key, value in pairs.items()) + f"\n{node_line}\n"


@contextlib.contextmanager
def cluster(folder: Path):
    """A Slurm of one node, its partition called debug."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        sys.exit(f"needs root and the packages slurm-wlm and munge (missing: {', '.join(missing) or 'root'})")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o400)
    (folder / "slurm.conf").write_text(settings_of(folder))
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    munge = [
        f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("socket", "pid-file", "log-file", "seed-file")
    ]
    daemons = [
        ["munged", "--force", "--foreground", f"--key-file={folder}/key", *munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]
    started = []
    try:
        with (folder / "daemons.log").open("w") as log:
            for command in daemons:
                started.append(subprocess.Popen(command, stdout=log, stderr=log))
                time.sleep(2)
        wait_for(lambda: "idle" in said("sinfo", "-h", "-o", "%T"), 60, f"slurm is not idle; see {folder}")
        yield
    finally:
        subprocess.run(["scancel", "--user=root"], check=False)
        time.sleep(2)
        for process in reversed(started):
            process.terminate()
            process.wait()


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def wait_for(condition, seconds: float, otherwise: str) -> None:
    deadline = time.time() + seconds
    while not condition():
        if time.time() > deadline:
            sys.exit(otherwise)
        time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    folder = (parser.parse_args().folder or Path(tempfile.mkdtemp())).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    peace, results = folder / "peace", folder / "results"
    command = [sys.executable, str(SCAN), "0", *OPTIONS]
    with cluster(folder):
        out = said(*command, "--results", str(results), "--slurm", "debug", "--jobs", "2", "--gpus-per-job", "0")
        print(out, end="", flush=True)
        first = re.findall(r"\d+_\d+", out)[0]
        wait_for(lambda: list(results.rglob("checkpoint.pt")), 300, f"no job has begun; see {folder}")
        time.sleep(5)
        subprocess.run(["scontrol", "requeue", first], check=True)
        print(f"job {first} is put back in the queue", flush=True)
        time.sleep(5)
        said("scontrol", "update", f"JobId={first}", "StartTime=now")  # it would wait for two minutes
        wait_for(lambda: not said("squeue", "-h"), 900, f"the queue does not empty; see {folder}")
        restarts = re.findall(r"Restarts=(\d+)", said("scontrol", "show", "job", first))
    subprocess.run([*command, "--results", str(peace), "--workers", "2"], check=True, capture_output=True)
    same, stray = summaries(results) == summaries(peace), files(results) ^ files(peace)
    print(f"{len(summaries(peace))} summaries {'equal' if same else 'DIFFER'}, stray files: {stray or 'none'}")
    print(f"restarts of job {first}: {restarts}")
    sys.exit(0 if same and not stray and restarts == ["1"] else 1)


if __name__ == "__main__":
    main()
