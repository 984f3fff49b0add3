"""What an import leaves behind, and a fork does not carry: judged in the fork server, by its kind.

Python threads, and those of native libraries that do not start anew in what is forked, are refused:
jobs would wait for them for ever. So is what all workers would share, such as sockets, event loops
and files that are open for writing: data would get mixed up. A file that is only read, or written
at its end, is none of these: each worker opens it once more, so that it has a place in it of its
own. What may be all right is a warning.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass, field
from typing import Final

from synk.runtime.forkserver import descriptors, native_threads

_WAY_OUT: Final = "in on_worker_start, or use start_method='spawn'"

_SURVIVES: Final = re.compile(r"openblas|libomp\b|iomp5|libarrow|tokenizers|jemalloc_bg|polars-ooc")
"""Libraries, and names of threads, that are known to go on in what is forked, or not to be missed
there: those that polars has as soon as it is imported are its allocator's, and one that cleans up.
"""

_DIES: Final = re.compile(r"polars|rayon|tokio|duckdb|gomp|onnxruntime|grpc|tensorflow")
"""Such as are known not to, though something in them (an allocator) wants to be told of a fork."""


@dataclass(slots=True)
class ForkSafety:
    """What imports have left since this was made."""

    to_reopen: list[int] = field(default_factory=list[int])
    """Files that each worker opens once more; see `descriptors.reopen`."""
    warnings: list[str] = field(default_factory=list[str])
    _known: dict[int, str] = field(default_factory=descriptors.opened)
    _threads: set[int] = field(default_factory=native_threads.native)

    def problem_of(self, module: str) -> str | None:
        """Returns why what the import of *module* left cannot be forked, or None."""
        for thread in threading.enumerate():
            if thread is not threading.main_thread():
                return (
                    f"its import left the thread {thread.name!r} running, which forked workers "
                    f"would not have; start it {_WAY_OUT}"
                )
        return self._problem_of_threads(module) or self._problem_of_descriptors(module)

    def _problem_of_threads(self, module: str) -> str | None:
        if not native_threads.native() - self._threads:
            return None
        # Some libraries end their threads before a fork, as OpenBLAS does.
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        whose = {native_threads.whose(thread) for thread in native_threads.native() - self._threads}
        self._threads |= native_threads.native()
        own_name = native_threads.name_of(os.getpid())
        for library, name in sorted(whose):
            said = library or "a native library"
            if name != own_name:
                said += f" (a thread named {name!r})"
            if _SURVIVES.search(os.path.basename(library)) or _SURVIVES.search(name):  # noqa: PTH119 - a text
                continue
            dies = _DIES.search(f"{library} {name}") is not None
            if dies or (library and not native_threads.is_told_of_forks(library)):
                return (
                    f"its import left threads of {said} running, which forked workers would not "
                    f"have, and their jobs would wait for ever; use it {_WAY_OUT}"
                )
            self.warnings.append(
                f"the import of {module} left threads of {said} running, which forked workers do "
                f"not have: if jobs hang in it, use it {_WAY_OUT}"
            )
        return None

    def _problem_of_descriptors(self, module: str) -> str | None:
        now = descriptors.opened()
        left = {fd: target for fd, target in now.items() if self._known.get(fd) != target}
        self._known = now
        # An event loop has sockets too: it is named first.
        for fd, target in sorted(left.items(), key=lambda each: "anon_inode" not in each[1]):
            judged = descriptors.judged(fd, target)
            if judged.is_to_reopen and descriptors.can_reopen(fd):
                self.to_reopen.append(fd)
            elif judged.what and not judged.may_be_right:
                return f"its import left {judged.what}; {judged.cure} {_WAY_OUT}"
            elif judged.what:
                self.warnings.append(
                    f"the import of {module} left {judged.what}; if they disturb each other there, "
                    f"{judged.cure} {_WAY_OUT}"
                )
        return None
