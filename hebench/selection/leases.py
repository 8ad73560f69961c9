"""Leases: who is at work on what, among processes and hosts that share a folder.

    with lease(run / "evals" / ".leases", "checkpoint-200-1f3a") as held:
        if held is not None:            # None: somebody else is at it
            ...
            held.require()              # raises if it was lost meanwhile

A lease is a file `<name>.<n>`, made by a create that fails if it is there, and touched while its
holder lives. One whose file has not been touched for `EXPIRES_SECONDS`, or whose process is known
to be dead, is taken over by making `<name>.<n+1>`, which again one process alone can. So nothing
is renamed or removed while somebody may look at it, and a holder that slept through its time finds
that there is a later number. Times are those of the file system, so that the hosts' clocks need
not agree.
"""

import contextlib
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hebench.errors import HebenchError
from hebench.files import require_writable

EXPIRES_SECONDS = 60.0
_BEATS = 4  # touches within that time


class LeaseLostError(HebenchError):
    """A lease ran out while its holder was at work, and another process has it now."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A lease that this process holds."""

    path: Path
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)

    def require(self) -> None:
        """Raise LeaseLostError if another process has taken the work over."""
        folder, name, number = self.path.parent, self.path.stem, _number(self.path)
        if not self.path.exists() or _newest(folder, name)[0] > number:
            raise LeaseLostError(
                f"{self.path}: expected to hold this lease still, found it taken over; this "
                "process stood still for too long, and the other one goes on"
            )


@contextlib.contextmanager
def lease(folder: Path, name: str, *, expires: float = EXPIRES_SECONDS) -> Iterator[Lease | None]:
    """Give the lease of that name, or None while another process holds it.

    expires: seconds without a sign of life after which a lease counts no more.
    """
    require_writable(folder)
    held = _take(folder, name, expires)
    if held is None:
        yield None
        return
    beat = threading.Thread(target=_beat, args=(held, expires / _BEATS), daemon=True)
    beat.start()
    try:
        yield held
    finally:
        held._stop.set()
        beat.join()
        for path in folder.glob(f"{name}.*"):
            if path.stem == name and _number(path) <= _number(held.path):
                path.unlink(missing_ok=True)


def holder(folder: Path, name: str) -> int | None:
    """Return the process id that the newest lease of that name was made by, None if there is none.

    The process may be one of another host.
    """
    newest, path = _newest(folder, name)
    if newest < 0:
        return None
    with contextlib.suppress(ValueError, OSError, KeyError):
        return int(json.loads(path.read_text(encoding="utf-8"))["pid"])
    return None  # made a moment ago and not written yet


def _take(folder: Path, name: str, expires: float) -> Lease | None:
    newest, path = _newest(folder, name)
    if newest >= 0 and not _is_over(path, expires):
        return None
    own = folder / f"{name}.{newest + 1}"
    content = {"pid": os.getpid(), "host": socket.gethostname(), "machine": _machine()}
    try:
        handle = os.open(own, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return None  # another process was quicker
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(content))
    return Lease(path=own)


def _is_over(path: Path, expires: float) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["machine"] and content["machine"] == _machine() and not _lives(content["pid"]):
            return True
    except FileNotFoundError:
        return True  # given back
    except (ValueError, KeyError, TypeError):
        pass  # not written yet, or cut off: its age decides
    try:
        return _now(path.parent) - path.stat().st_mtime > expires
    except FileNotFoundError:
        return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _machine() -> str:
    """Return what tells this machine's processes from others', "" where nothing does.

    The boot and the namespace of process ids: containers have process ids of their own.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _now(folder: Path) -> float:
    """Return the time by the clock that stamps the folder's files."""
    probe = folder / f".clock.{os.getpid()}.{threading.get_ident()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _newest(folder: Path, name: str) -> tuple[int, Path]:
    """Return the highest number of a lease and its file; -1 if there is none."""
    known = [(_number(path), path) for path in folder.glob(f"{name}.*") if path.stem == name]
    return max(known, default=(-1, folder / name))


def _number(path: Path) -> int:
    found = re.fullmatch(r"\.(\d+)", path.suffix)
    return int(found[1]) if found else -1


def _beat(held: Lease, every: float) -> None:
    while not held._stop.wait(every):
        with contextlib.suppress(
            OSError
        ):  # a server that is away for a moment; the next beat tells
            os.utime(held.path)
