"""Leases: which process works on a folder, on one machine or on several that share a file system.

A folder belongs to the claim with the highest number in it, `claim_<n>.json`. The file is created exclusively, so that
of all who try one makes it. Its owner renews it and writes into it how far the work is. A claim is dead if it was not
renewed for `EXPIRY` seconds by the clock of the file system, or, on the machine of its owner, as soon as the system has
dropped the lock on it, which happens when a process ends, however it ends. Who finds the highest claim dead makes the
next one.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

EXPIRY, RENEWAL = 60.0, 10.0  # seconds
GONE = (errno.ENOENT, errno.ESTALE)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class LeaseLost(Exception):
    """Somebody else took a folder over, since its lease was not renewed in time: this process was stopped for long."""


class Lease:
    """A folder that belongs to this process; a thread renews it until `release`.

    Attributes:
        progress: what `holder` tells others of the work, plain values.
    """

    def __init__(self, path: Path, descriptor: int, machine: str) -> None:
        self.path, self._descriptor, self._machine = path, descriptor, machine
        self.progress: dict = {}
        self._since = time.time()
        self.renew()
        _renew_from_now_on(self)

    def renew(self) -> None:
        """Tells everybody that the owner is alive, and how far it is."""
        about = {"host": socket.gethostname(), "pid": os.getpid(), "machine": self._machine}
        times = {"since": self._since, "renewed": time.time()}
        content = json.dumps(about | times | self.progress).encode()
        os.pwrite(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))
        os.utime(self._descriptor)  # by the clock of the file system
        os.fsync(self._descriptor)  # over a network, others see nothing before

    def check(self) -> None:
        """Makes sure that the folder is still held.

        Raises:
            LeaseLost: somebody else owns the folder by now.
        """
        if not self._is_there() or _claims(self.path.parent)[-1:] != [self.path]:
            raise LeaseLost(f"{self.path.parent} was taken over by another process")

    @property
    def held(self) -> bool:
        """False after `release`."""
        return self in _held

    def release(self) -> None:
        """Gives the folder up."""
        with _lock:
            _held.discard(self)
        if self._is_there():
            _remove(self.path)
        os.close(self._descriptor)

    def _is_there(self) -> bool:
        with _if_gone():
            return os.stat(self.path).st_ino == os.fstat(self._descriptor).st_ino
        return False


def take(folder: Path) -> Lease | None:
    """A lease on a folder, which is made if there is none; None if somebody holds it.

    Raises:
        OSError: the folder cannot be written.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            before = _claims(folder)
        except (FileNotFoundError, FileExistsError):
            if folder.is_file():
                raise
            continue  # the folder was empty, and its owner removed it just now
        if before and _alive(before[-1]):
            return None
        number = int(before[-1].stem.partition("_")[2]) + 1 if before else 1
        path = folder / f"claim_{number:06}.json"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        except FileExistsError:  # somebody was faster
            return None
        except OSError as error:
            if error.errno in GONE:  # removed just now
                continue
            raise
        lease = None
        try:
            # Somebody may have been faster: gone on to a higher number, or begun anew in a folder that was empty for a
            # moment. Who is not alone gives way, and asks again.
            others = [claim for claim in _claims(folder) if claim != path]
            if not any(claim > path or _alive(claim) for claim in others):
                lease = Lease(path, descriptor, _machine(descriptor) if _lock_file(descriptor) else "")
                for dead in others:
                    _remove(dead)
                return lease
        finally:
            if lease is None:  # also where the disk is full
                _remove(path)
                os.close(descriptor)


def holder(folder: Path) -> dict | None:
    """Who works on a folder: `host`, `pid`, `since`, `renewed` (by its clock) and its progress; None if nobody does."""
    claims = _claims(folder)
    return (_read(claims[-1]) or {}) if claims and _alive(claims[-1]) else None


def is_claim(path: Path) -> bool:
    """Whether a file belongs to this module."""
    return path.name.startswith("claim")


def remove_dead(folder: Path) -> None:
    """Removes the claims of a folder that nobody works on any more."""
    for path in _claims(folder):
        if not _alive(path):
            _remove(path)


def _lock_file(descriptor: int) -> bool:
    # Some file systems have no locks: a claim there can but expire.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise
    return True


@contextlib.contextmanager
def _if_gone() -> Iterator[None]:
    # What another process removed is not there; what another machine removed, over a network, may be stale.
    try:
        yield
    except OSError as error:
        if error.errno not in (*GONE, errno.ENOTDIR):
            raise


def _remove(path: Path) -> None:
    with _if_gone():
        path.unlink()


def _claims(folder: Path) -> list[Path]:
    with _if_gone():
        return sorted(folder / name for name in os.listdir(folder) if re.fullmatch(r"claim_\d+\.json", name))
    return []


def _read(path: Path) -> dict | None:
    with _if_gone():
        return _parsed(path.read_bytes())
    return None


def _parsed(content: bytes) -> dict | None:
    # None where there is nothing to read: its owner is about to write
    try:
        about = json.loads(content)
    except ValueError:
        return None
    return about if isinstance(about, dict) else None


def _alive(path: Path) -> bool:
    with _if_gone():
        with path.open("rb") as file:
            about = _parsed(file.read())
            if about is not None and about.get("machine") == _machine(file.fileno()) != "":
                locked = _is_locked(file.fileno())
                if locked is not None:
                    return locked
        now = _now(path.parent)  # before its time is looked at: renewed meanwhile, it is alive
        return abs(now - path.stat().st_mtime) < EXPIRY  # by a clock that was ahead it is nobody's either
    return False


def _is_locked(descriptor: int) -> bool | None:
    # None where the file system does not say.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        raise
    return False


def _now(folder: Path) -> float:
    # Clocks of several machines differ, that of the file system is one. Where nothing can be written, as in a folder of
    # somebody else's, this machine's has to do.
    probe = folder / f"claim-probe-{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
    try:
        with probe.open("w") as file:
            os.utime(file.fileno())
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _machine(descriptor: int) -> str:
    # Host names need not be unique, and a lock says nothing of the time before the machine started anew, nor, where
    # locks are those of one mount, of what another mount of the same files has. Empty where there is no such number:
    # claims then expire.
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{boot.read_text().strip()}-{os.fstat(descriptor).st_dev}" if boot.exists() else ""


# One thread renews all leases of the process.

_held: set[Lease] = set()
_lock = threading.Lock()
_thread: threading.Thread | None = None


def _renew_from_now_on(lease: Lease) -> None:
    global _thread
    with _lock:
        _held.add(lease)
        if _thread is None:
            _thread = threading.Thread(target=_renew_all, name="leases", daemon=True)
            _thread.start()


def _renew_all() -> None:
    while True:
        time.sleep(RENEWAL)
        with _lock:
            for lease in _held:
                with contextlib.suppress(OSError):  # of a full disk, say: what cannot be renewed expires
                    lease.renew()
