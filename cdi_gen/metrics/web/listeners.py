# SPDX-License-Identifier: Apache-2.0
"""Opens the sockets that metrics are served at.

A socket of the file system appears under its name in one step, with its mode, when it is listened
on. A name that a running program listens at, or that belongs to another user, is not taken.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable
from typing import NamedTuple

from cdi_base import files
from cdi_gen.errors import CdiGenError, UsageError

UNIX = "unix:"
BACKLOG = 512
LONGEST_PATH = 107
"""Bytes of the name of a socket in the file system; see unix(7)."""


class ListenError(CdiGenError):
    """An address cannot be listened at."""

    code = "CDG-O151"


class Address(NamedTuple):
    """Where to listen: a path, or a host and a port."""

    path: str = ""
    host: str = ""
    """Empty: all addresses of the machine, IPv4 and IPv6."""
    port: int = 0

    def __str__(self) -> str:
        """Return the address as `parse` reads it."""
        if self.path:
            return f"{UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Listener(NamedTuple):
    """A socket that is listened on."""

    socket: socket.socket
    address: Address
    identity: tuple[int, int] | None = None
    """Device and inode of a socket of the file system."""

    def close(self) -> None:
        """Close the socket, and remove its name if it is still this socket's."""
        self.socket.close()
        if self.identity is None:
            return
        try:
            status = os.lstat(self.address.path)
            if (status.st_dev, status.st_ino) == self.identity:
                os.unlink(self.address.path)
        except OSError:
            return  # the directory is gone, or is not writable any more


def parse(text: str) -> Address:
    """Return the address of ``HOST:PORT``, ``:PORT``, ``[IPV6]:PORT`` or ``unix:/PATH``.

    Port 0 is a free port that the kernel chooses.

    Raises:
        UsageError: it has another form.
    """
    if text.startswith(UNIX):
        path = text.removeprefix(UNIX)
        if not path.startswith("/") or path.endswith("/") or "\0" in path:
            raise _usage(text, "needs the absolute path of a socket")
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise _usage(text, f"is a path of more than {LONGEST_PATH} bytes")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    if not colon:
        raise _usage(text, "has no port")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise _usage(text, "has a port that is not a number from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        return Address(host=host[1:-1], port=int(port))
    if ":" in host:
        raise _usage(text, "is an IPv6 address without brackets")
    return Address(host=host, port=int(port))


def _usage(text: str, what: str) -> UsageError:
    return UsageError(
        f"--listen: {text!r} {what}",
        hint="write HOST:PORT, :PORT, [IPV6]:PORT or unix:/PATH, for example 127.0.0.1:9400",
        code="CDG-O150",
        subject="--listen",
    )


def listen(address: Address, mode: int = 0o660) -> Listener:
    """Listen at an address.

    Args:
        address: where.
        mode: the permissions of a socket of the file system.

    Raises:
        ListenError: the address is taken, does not exist, or may not be used.
    """
    if address.path:
        return _listen_in_file_system(address, mode)
    if not address.host:
        return _listen_everywhere(address)
    try:
        choices = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ListenError(
            f"cannot listen at {address}: {reason}",
            hint="give an address of this machine with --listen",
            subject=str(address),
        ) from error
    # As Go's programs: of a name with several addresses the first one of IPv4, or the first one.
    family, *_, location = next((c for c in choices if c[0] == socket.AF_INET), choices[0])
    return _bound(_new(socket.AddressFamily(family)), address, location)


def _listen_everywhere(address: Address) -> Listener:
    """Listen at all addresses; at those of IPv4 if the machine has no IPv6."""
    try:
        both = _new(socket.AF_INET6)
        both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    except OSError:
        return _bound(_new(socket.AF_INET), address, ("", address.port))
    try:
        return _bound(both, address, ("::", address.port))
    except ListenError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno != errno.EADDRNOTAVAIL:
            raise
    return _bound(_new(socket.AF_INET), address, ("", address.port))


def _new(family: socket.AddressFamily) -> socket.socket:
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


def _bound(
    listener: socket.socket, address: Address, location: tuple[object, ...] | str
) -> Listener:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(location)
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise _refused(address, error) from error
    return Listener(listener, address._replace(port=listener.getsockname()[1]))


def _refused(address: Address, error: OSError | OverflowError) -> ListenError:
    number = error.errno if isinstance(error, OSError) else None
    reason = error.strerror if isinstance(error, OSError) else str(error)
    hints = {
        errno.EADDRINUSE: f"another program listens there (ss -ltnp 'sport = :{address.port}'); "
        "give another port with --listen",
        errno.EADDRNOTAVAIL: "give an address of this machine with --listen",
        errno.EACCES: "give a port of 1024 or more with --listen",
    }
    hint = hints.get(number or 0, "give another address with --listen")
    return ListenError(f"cannot listen at {address}: {reason}", hint=hint, subject=str(address))


def _listen_in_file_system(address: Address, mode: int) -> Listener:
    above, _, name = address.path.rpartition("/")
    try:
        directory = os.open(above or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        message = f"cannot listen at {address}: {above or '/'}: {error.strerror}"
        hint = "create the directory; the user of the service must be able to write to it"
        raise ListenError(message, hint=hint, subject=address.path) from error
    try:
        # Of two programs that start at the same time, the second one sees the socket of the first.
        fcntl.flock(directory, fcntl.LOCK_EX)
        _check_name(address, name, directory)
        return _renamed(address, name, directory, mode)
    except OSError as error:
        message = f"cannot listen at {address}: {error.strerror}"
        hint = f"the user of the service must be able to write to {above or '/'}"
        raise ListenError(message, hint=hint, subject=address.path) from error
    finally:
        os.close(directory)


def _check_name(address: Address, name: str, directory: int) -> None:
    """Check that the name is free, or that of a socket that this user left behind."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ListenError(
            f"cannot listen at {address}: the file exists and is not a socket",
            hint="remove it, or give another path with --listen",
            subject=address.path,
        )
    if _is_listened_on(name, directory):
        raise ListenError(
            f"cannot listen at {address}: a running program listens there",
            hint=f"end it (ss -lxp src {address.path}), or give another path with --listen",
            subject=address.path,
        )
    if status.st_uid != os.geteuid():
        raise ListenError(
            f"cannot listen at {address}: a socket of user {status.st_uid} has this name",
            hint=f"remove it if its program has ended: rm {address.path}",
            subject=address.path,
        )


def _is_listened_on(name: str, directory: int) -> bool:
    """Whether a program listens on a socket; in doubt it is one that is listened on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        try:
            probe.connect(f"/proc/self/fd/{directory}/{name}")
        except ConnectionRefusedError:
            return False
        except OSError as error:
            # EPROTOTYPE: a socket of datagrams, EAGAIN: many connections wait.
            return error.errno != errno.ENOENT
        return True


def _renamed(address: Address, name: str, directory: int, mode: int) -> Listener:
    """Listen under a temporary name, and rename it: the old socket, if any, is replaced."""
    temporary = files.temporary_name()
    listener = _new(socket.AF_UNIX)

    def at(location: str, change: Callable[[], object]) -> None:
        try:
            change()
        except OSError:
            files.discard(location, directory)
            raise

    try:
        path = f"/proc/self/fd/{directory}/{temporary}"
        listener.bind(path)
        # Before it is listened on: nobody can connect with permissions of the umask.
        at(temporary, lambda: os.chmod(path, mode))
        at(temporary, lambda: listener.listen(BACKLOG))
        status = os.stat(temporary, dir_fd=directory, follow_symlinks=False)
        at(
            temporary,
            lambda: os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory),
        )
    except OSError:
        listener.close()
        raise
    return Listener(listener, address, (status.st_dev, status.st_ino))
