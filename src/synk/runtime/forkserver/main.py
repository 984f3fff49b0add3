"""How the fork server begins: it imports the handlers once, says how that went, and serves.

It talks to its supervisor over one SOCK_SEQPACKET pair, and dies with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from typing import Any

from synk.runtime.forkserver import imports
from synk.runtime.forkserver.fork_server import IMPORTED, ForkServer
from synk.runtime.ipc import linux, packets, process_role
from synk.runtime.worker.forks import Forks
from synk.runtime.worker.stack import end_with_stack, let_stack_go


def main(control_fd: int) -> None:
    """Serves one supervisor until it closes the socket, or is gone."""
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    settings = json.loads(packets.receive(control))
    setup = packets.receive(control)
    process_role.take(process_role.ProcessRole.FORK_SERVER, settings["supervisor_pid"])
    linux.set_name("synk-forkserver")
    linux.bear_ending_signals()
    # While it imports there is nothing to clean up, and Python code may be slow to run a handler.
    linux.die_with_parent(signal.SIGKILL)
    _check_parent(settings)
    linux.adopt_orphans()
    forks = Forks()
    # If its imports hang, they are told by their stack.
    stacks = settings["stacks"]
    os.set_inheritable(stacks, False)  # noqa: FBT003 - its signature
    end_with_stack(stacks)
    imported = imports.load(settings)
    let_stack_go()
    os.close(stacks)
    with contextlib.suppress(ConnectionError):
        packets.send(
            control, IMPORTED + json.dumps([imported.problems, imported.warnings]).encode()
        )
    server = ForkServer(control, setup, settings["command"], forks, imported)
    signal.signal(signal.SIGUSR1, server.supervisor_died)
    linux.die_with_parent(signal.SIGUSR1)
    _check_parent(settings)
    server.run()


def _check_parent(settings: dict[str, Any]) -> None:
    if os.getppid() != settings["supervisor_pid"]:
        os._exit(1)
