"""Packets on a SOCK_SEQPACKET socket; the body of a large one travels in a memory file.

`socket.send_fds` and `recv_fds` are not used here: before Python 3.14 they ignore their flags, and
a supervisor must never wait for a worker.
"""

from __future__ import annotations

import array
import os
import socket
from typing import Final

from synk.core.wire import PACKET_BYTES_MAX

# As integers: to join members of an IntFlag takes longer than to look for a packet.
DONT_WAIT: Final = int(socket.MSG_DONTWAIT)
"""A flag: rather fail than wait."""
_CLOSE_ON_EXEC: Final = int(socket.MSG_CMSG_CLOEXEC)

_FD_BYTES: Final = array.array("i").itemsize
_IN_FILE: Final = b"F"
"""What a packet says whose body is in the file that comes with it."""


def send(channel: socket.socket, packet: bytes, flags: int = 0) -> None:
    """Sends *packet*, whole or not at all.

    Raises:
        BlockingIOError: the channel is full, with DONT_WAIT in *flags*.
        ConnectionError: the other end is gone.
    """
    if len(packet) <= PACKET_BYTES_MAX:
        channel.send(packet, flags)
        return
    fd = os.memfd_create("synk-packet")
    try:
        with os.fdopen(fd, "wb", closefd=False) as body:
            body.write(packet)
        send_with(channel, _IN_FILE, [fd], flags)
    finally:
        os.close(fd)


def send_with(channel: socket.socket, packet: bytes, fds: list[int], flags: int = 0) -> None:
    """Sends a small packet and descriptors with it; raises as `send` does."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
    channel.sendmsg([packet], [rights], flags)


def receive(channel: socket.socket, flags: int = 0) -> bytes:
    """Receives one packet, and closes what came with it; empty when the other end is closed.

    Raises:
        BlockingIOError: there is none, with DONT_WAIT in *flags*.
        ConnectionError: the other end is gone.
    """
    packet, fds = receive_with(channel, 1, flags)
    for fd in fds:
        os.close(fd)
    return packet


def receive_with(channel: socket.socket, most: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """Receives one packet and up to *most* descriptors, which do not survive an exec.

    The file of a large packet is read and closed, and not among them. Raises as `receive` does.
    """
    packet, ancillary, _, _ = channel.recvmsg(
        PACKET_BYTES_MAX, socket.CMSG_LEN(most * _FD_BYTES), flags | _CLOSE_ON_EXEC
    )
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % _FD_BYTES])
    if packet == _IN_FILE and fds:
        fd = fds[0]
        try:
            return os.pread(fd, os.fstat(fd).st_size, 0), []
        finally:
            os.close(fd)
    return packet, fds.tolist()
