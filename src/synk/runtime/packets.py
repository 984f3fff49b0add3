"""Packets on a SOCK_SEQPACKET socket; the body of a large one travels in a memory file.

`socket.send_fds` and `recv_fds` are not used: before Python 3.14 they ignore their flags, and a
supervisor must never wait for a worker.
"""

from __future__ import annotations

import array
import os
import socket
from typing import Final

from synk.core.wire import PACKET_BYTES_MAX

_FD_BYTES: Final = array.array("i").itemsize
_IN_FILE: Final = b"F"
"""What a packet says whose body is in the file that comes with it."""


def send(channel: socket.socket, packet: bytes, flags: int = 0) -> None:
    """Sends *packet*, whole or not at all.

    Raises:
        BlockingIOError: the channel is full, with MSG_DONTWAIT in *flags*.
        ConnectionError: the other end is gone.
    """
    if len(packet) <= PACKET_BYTES_MAX:
        channel.send(packet, flags)
        return
    fd = os.memfd_create("synk-packet")
    try:
        with os.fdopen(fd, "wb", closefd=False) as body:
            body.write(packet)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
        channel.sendmsg([_IN_FILE], [rights], flags)
    finally:
        os.close(fd)


def receive(channel: socket.socket, flags: int = 0) -> bytes:
    """Receives one packet; empty when the other end is closed.

    Raises:
        BlockingIOError: there is none, with MSG_DONTWAIT in *flags*.
        ConnectionError: the other end is gone.
    """
    packet, ancillary, _, _ = channel.recvmsg(
        PACKET_BYTES_MAX, socket.CMSG_LEN(_FD_BYTES), flags | socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fd = array.array("i", data[:_FD_BYTES])[0]
            size = os.fstat(fd).st_size
            try:
                return os.pread(fd, size, 0)
            finally:
                os.close(fd)
    return packet
