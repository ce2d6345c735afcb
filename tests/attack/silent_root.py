# SPDX-License-Identifier: Apache-2.0
"""A container whose root is an overlay over FUSE, and whose server stops answering.

Any user can run it in a user namespace: ``unshare -rm python silent_root.py DIRECTORY``. It prints
``ready`` when it has its root, and ends with its standard input.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading

INIT, GETATTR, STATFS = 26, 3, 17
_HEADER = struct.Struct("<IIQQIIII")
_ATTRIBUTES = struct.pack("<QQQQQQIIIIIIIIII", 1, *[0] * 8, 0o40755, 2, 0, 0, 0, 4096, 0)
_ANSWERS = {
    INIT: struct.pack("<IIIIHHI", 7, 31, 0, 0, 0, 0, 4096).ljust(64, b"\0"),
    GETATTR: struct.pack("<QII", 0, 0, 0) + _ATTRIBUTES,
    STATFS: bytes(80),
}
_ENOSYS = 38
_BIND = 4096

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount a file system, as mount(2)."""
    texts = [text.encode() for text in (source, target, kind)]
    if _libc.mount(*texts, flags, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def serve(server: int, is_silent: threading.Event) -> None:
    """Answer as an empty directory, until silent."""
    while True:
        request = os.read(server, 1 << 17)
        _, operation, number, *_ = _HEADER.unpack_from(request)
        if is_silent.is_set():
            continue
        answer = _ANSWERS.get(operation, b"")
        error = 0 if answer else -_ENOSYS
        os.write(server, struct.pack("<IiQ", 16 + len(answer), error, number) + answer)


def main() -> None:
    """Make the root, enter it and wait."""
    (base,) = sys.argv[1:]
    lower, empty, root = (f"{base}/{name}" for name in ("lower", "empty", "root"))
    for directory in (lower, empty, root):
        os.mkdir(directory)
    server = os.open("/dev/fuse", os.O_RDWR)
    mount("silent", lower, "fuse", 0, f"fd={server},rootmode=40000,user_id=0,group_id=0")
    is_silent = threading.Event()
    threading.Thread(target=serve, args=(server, is_silent), daemon=True).start()
    mount("overlay", root, "overlay", 1, f"lowerdir={lower}:{empty}")
    mount(root, root, "", _BIND)
    os.chroot(root)
    os.chdir("/")
    is_silent.set()
    print("ready", flush=True)
    sys.stdin.read()


main()
