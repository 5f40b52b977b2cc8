"""Leases: one owner whoever asks, freed by death and by silence, never by mistake."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from depthsearch.running import folders as runs
from depthsearch.running import leases

HOLD = """
import sys, time
from pathlib import Path
from depthsearch.running.leases import take
print(take(Path(sys.argv[1])) is not None, flush=True)
time.sleep(600)
"""


def hold(folder):
    """Another process that has the lease of a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    return process


def silent_for(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def from_elsewhere(folder, number=1):
    """A claim of a process on another machine."""
    folder.mkdir(exist_ok=True)
    path = folder / f"claim_{number:06}.json"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "machine": "another boot"}))
    return path


def test_a_lease_has_one_owner_until_it_is_released(tmp_path):
    folder = tmp_path / "run"
    mine = leases.take(folder)
    assert mine is not None and leases.take(folder) is None
    owner = leases.holder(folder)
    assert owner is not None and owner["pid"] == os.getpid()
    mine.release()
    mine_again = leases.take(folder)
    assert leases.holder(tmp_path) is None and mine_again is not None
    mine_again.release()
    assert not list(folder.iterdir())


def test_of_many_who_ask_at_once_one_gets_it(tmp_path):
    for attempt in range(20):
        folder, got = tmp_path / str(attempt), []
        if attempt % 2:
            silent_for(from_elsewhere(folder) if not folder.exists() else folder, 1000)
        barrier = threading.Barrier(8)

        def ask(folder=folder, got=got, barrier=barrier):
            barrier.wait()
            got.append(leases.take(folder))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        (owner,) = [lease for lease in got if lease is not None]
        assert [path for path in folder.iterdir() if "probe" not in path.name] == [owner.path]
        owner.release()


def test_a_folder_that_was_empty_for_a_moment_has_one_owner(tmp_path, monkeypatch):
    """A gives up while B looks at its claim, and C comes: the numbers of claims begin anew."""
    first, got, alive = leases.take(tmp_path), [], leases._alive

    def meanwhile(path):
        if not got:
            got.append(None)
            first.release()
            found = alive(path)
            got[0] = leases.take(tmp_path)
            return found
        return alive(path)

    monkeypatch.setattr(leases, "_alive", meanwhile)
    assert leases.take(tmp_path) is None
    got[0].check()
    assert [path for path in tmp_path.iterdir() if "probe" not in path.name] == [got[0].path]
    got[0].release()


def test_a_folder_removed_meanwhile_is_made_again(tmp_path, monkeypatch):
    folder, claims, came = tmp_path / "run", leases._claims, []

    def removed_first(path):
        if not came:
            came.append(path)
            path.rmdir()
            raise FileNotFoundError(path)  # as `glob` does in some versions of Python
        return claims(path)

    monkeypatch.setattr(leases, "_claims", removed_first)
    leases.take(folder).release()
    assert came == [folder]
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        leases.take(tmp_path / "file")


def test_what_a_file_server_calls_stale_is_gone(tmp_path, monkeypatch):
    path, told = from_elsewhere(tmp_path), OSError(errno.ESTALE, "Stale file handle")

    def stale(*_, **__):
        raise told

    for module, name in ((Path, "open"), (Path, "stat"), (os, "listdir")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, stale)
            assert leases.holder(tmp_path) is None
    opened, came = os.open, []

    def stale_once(*arguments, **options):
        if not came:
            came.append(arguments)
            raise told
        return opened(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", stale_once)
        leases.take(tmp_path / "new").release()
    assert came
    told.errno = errno.EIO
    monkeypatch.setattr(os, "listdir", stale)
    with pytest.raises(OSError):
        leases.holder(tmp_path)
    assert path.exists()


def test_where_a_file_system_does_not_say_whether_a_claim_is_locked_it_expires(tmp_path, monkeypatch):
    mine = leases.take(tmp_path)

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(leases.fcntl, "flock", no_locks)
    assert leases.holder(tmp_path) is not None
    silent_for(mine.path, leases.EXPIRY + 5)
    assert leases.holder(tmp_path) is None
    mine.release()


def test_the_death_of_its_owner_frees_it_at_once(tmp_path):
    process = hold(tmp_path)
    assert leases.take(tmp_path) is None
    process.kill()
    process.wait()
    assert leases.holder(tmp_path) is None
    mine = leases.take(tmp_path)
    assert mine is not None and [path.name for path in tmp_path.iterdir()] == ["claim_000002.json"]
    mine.release()


@pytest.mark.parametrize("content", [None, "", "{half", "[1]"])
def test_silence_frees_it_where_death_cannot_be_seen(content, tmp_path):
    """On another machine; or a claim that cannot be read, whose owner may be about to write it."""
    path = from_elsewhere(tmp_path)
    if content is not None:
        path.write_text(content)
    assert leases.take(tmp_path) is None
    silent_for(path, leases.EXPIRY - 5)
    assert leases.take(tmp_path) is None and leases.holder(tmp_path) is not None
    silent_for(path, -leases.EXPIRY - 5)  # its clock was ahead
    assert leases.holder(tmp_path) is None
    silent_for(path, leases.EXPIRY + 5)
    assert leases.holder(tmp_path) is None
    mine = leases.take(tmp_path)
    assert mine is not None
    mine.release()
    assert not list(tmp_path.iterdir())


def test_an_owner_on_this_machine_may_be_silent(tmp_path):
    """A stopped process, or one whose disk is full: its lock says that it lives."""
    mine = leases.take(tmp_path)
    silent_for(mine.path, 1000)
    assert leases.take(tmp_path) is None
    mine.release()


def test_leases_are_renewed(tmp_path, monkeypatch):
    mine = leases.take(tmp_path)
    silent_for(mine.path, 1000)
    mine.progress = {"epoch": 7}
    mine.renew()
    assert time.time() - mine.path.stat().st_mtime < 10 and leases.holder(tmp_path)["epoch"] == 7
    assert mine in leases._held and leases._thread.is_alive()
    mine.release()
    assert mine not in leases._held


def test_a_run_that_its_owner_finished_just_now_is_left_alone(tmp_path, monkeypatch):
    folder, take = tmp_path / "run", leases.take

    def late(folder):  # between the first look and the lease another process finishes
        folder.mkdir()
        for name in (runs.SUMMARY, "weights.pt"):
            (folder / name).write_text("{}")
        return take(folder)

    monkeypatch.setattr(runs, "take", late)
    assert runs.reserve(folder) is None and leases.holder(folder) is None
    assert {path.name for path in folder.iterdir()} == {runs.SUMMARY, "weights.pt"}


def test_who_lost_a_lease_writes_no_more(tmp_path):
    """Taken over by another machine while this process was stopped for long."""
    reservation = runs.reserve(tmp_path / "version_0")
    reservation.save({"epoch": 1})
    theirs = from_elsewhere(reservation.folder, 2)
    with pytest.raises(leases.LeaseLost, match="taken over"):
        reservation.save({"epoch": 2})
    with pytest.raises(leases.LeaseLost):
        reservation.finish({}, {}, [], {})
    reservation.lease.path.unlink()  # as who took it over does
    with pytest.raises(leases.LeaseLost):
        reservation.save({"epoch": 2})
    reservation.release()
    names = {path.name for path in reservation.folder.iterdir()}
    assert names == {theirs.name, "checkpoint.pt"}
    assert torch.load(reservation.folder / "checkpoint.pt", weights_only=True) == {"epoch": 1}
