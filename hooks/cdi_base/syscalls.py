# SPDX-License-Identifier: Apache-2.0
"""System calls that Python's `os` lacks. Each raises `OSError`, as the functions of `os` do.

Numbers from 424 on are the same on every architecture that has an NVIDIA driver.
"""

from __future__ import annotations

# `_ctypes` is what `ctypes` wraps; `ctypes` itself costs 2.5 ms, for types that are not used here.
import _ctypes
import _struct as struct
import errno
import os
import sys

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
CAP_DAC_READ_SEARCH = 2

MFD_EXEC = 0x10

ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 0x1, 0x2, 0x4, 0x8
"""Of mount_setattr(2); mount(2) has the same numbers."""

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 428, 429, 430, 431, 432
_OPENAT2, _MOUNT_SETATTR = 437, 442
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_EMPTY_PATHS = 0x04 | 0x40
_FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 1, 6
_MNT_DETACH = 2

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC = 0x1, 0x20, 0x1000, 0x4000
MS_PRIVATE, MS_SLAVE = 1 << 18, 1 << 19
MS_HARMLESS = 0x2 | 0x4 | 0x8
"""nosuid, nodev, noexec"""

PROC_SUPER_MAGIC, TMPFS_MAGIC = 0x9FA0, 0x01021994

KERNEL_FILE_SYSTEMS = frozenset(
    {
        PROC_SUPER_MAGIC,
        0x62656572,  # sysfs
        0x64626720,  # debugfs
        0x74726163,  # tracefs
        0x73636673,  # securityfs
        0x62656570,  # configfs
        0x0027E0EB,  # cgroup, and cpuset
        0x63677270,  # cgroup2
        0x07655821,  # resctrl
        0xCAFE4A11,  # bpf
        0x6165676C,  # pstore
        0xDE5E81E4,  # efivarfs
        0x00001CD1,  # devpts
        0x19800202,  # mqueue
        0x6E736673,  # nsfs
        0x50494446,  # pidfs
        0x6C6F6F70,  # binder
        0x42494E4D,  # binfmt_misc
        0x65735543,  # fusectl; not FUSE, which a container's root may be
        0x00000187,  # autofs
        0x67596969,  # rpc_pipefs
        0x6E667364,  # nfsd
        0xF97CFF8C,  # selinuxfs
        0x43415D53,  # smackfs
        0x5A3C69F0,  # AppArmor's
        0xABBA1974,  # xenfs
        0x00009FA1,  # openpromfs
        0x00009FA2,  # usbdevfs
        0x76A9F425,  # ocfs2_dlmfs
        0x23C9B64E,  # spufs
    }
)
"""Magic numbers, of linux/magic.h, of file systems whose files the kernel generates. Reading such a
file may consume data, block, or reveal what only the host's root may know."""

MACHINE = os.uname().machine if sys.maxsize > 2**32 else "a 32-bit program"
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(MACHINE)
_OPEN_BY_HANDLE_AT = {"x86_64": 304, "aarch64": 265}.get(MACHINE)
_BPF = {"x86_64": 321, "aarch64": 280}.get(MACHINE)
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}.get(MACHINE)


_Value = _ctypes._SimpleCData  # noqa: SLF001


class _Long(_Value):  # type: ignore[type-arg]
    _type_ = "l"


class _Int(_Value):  # type: ignore[type-arg]
    _type_ = "i"


class _Byte(_Value):  # type: ignore[type-arg]
    _type_ = "c"


class _Function(_ctypes.CFuncPtr):
    """A function of the C library that returns a long and leaves its error in errno."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Long


class _IntFunction(_ctypes.CFuncPtr):
    """The same, returning an int."""

    _flags_ = _Function._flags_
    _restype_ = _Int


# Looked up now, because a child that has entered the image must not load anything.
_libc = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # the program itself
_syscall = _Function(_ctypes.dlsym(_libc, "syscall"))
_mount, _umount2, _unshare, _setns, _prctl, _capset, _fstatfs = (
    _IntFunction(_ctypes.dlsym(_libc, name))
    for name in ("mount", "umount2", "unshare", "setns", "prctl", "capset", "fstatfs")
)


def _checked(result: int, subject: str) -> int:
    if result < 0:
        number = _ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)
    return result


def _call(subject: str, number: int | None, *arguments: int | bytes) -> int:
    if number is None:
        raise OSError(errno.ENOSYS, f"{os.strerror(errno.ENOSYS)} on {MACHINE}", subject)
    # A bare int would be passed as 32 bits; bytes are passed as their address.
    words = [value if isinstance(value, bytes) else _Long(value) for value in arguments]
    return _checked(_syscall(_Long(number), *words), subject)


def openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    """Open `path` below `directory` under the rules of `resolve` (Linux 5.6)."""
    name = os.fsencode(path)
    if b"\0" in name:
        # C ends the name at the NUL and would open another file.
        raise OSError(errno.EINVAL, "a NUL in the name", path)
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, resolve)
    return _call(path, _OPENAT2, directory, name, how, len(how))


def clone_tree(descriptor: int, *, recursive: bool = True) -> int:
    """Return a detached copy of the mount at `descriptor`, and of those below it (Linux 5.2)."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH
    if recursive:
        flags |= AT_RECURSIVE
    return _call("open_tree", _OPEN_TREE, descriptor, b"", flags)


def make_harmless(tree: int, *, executable: bool = False) -> None:
    """Make every mount of a cloned tree private, read-only, nosuid, nodev, noexec (Linux 5.12)."""
    attributes = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV
    if not executable:
        attributes |= ATTR_NOEXEC
    change = struct.pack("QQQQ", attributes, 0, MS_PRIVATE, 0)
    flags = AT_EMPTY_PATH | AT_RECURSIVE
    _call("mount_setattr", _MOUNT_SETATTR, tree, b"", flags, change, len(change))


def set_attributes(tree: int, attributes: int, propagation: int, *, recursive: bool) -> None:
    """Set ATTR_* and MS_PRIVATE or MS_SLAVE on a cloned tree, or on its top mount (Linux 5.12)."""
    change = struct.pack("QQQQ", attributes, 0, propagation, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _call("mount_setattr", _MOUNT_SETATTR, tree, b"", flags, change, len(change))


def make_writable(mount: int) -> None:
    """Make a cloned mount private, and writable if its file system is (Linux 5.12)."""
    change = struct.pack("QQQQ", 0, ATTR_RDONLY, MS_PRIVATE, 0)
    _call("mount_setattr", _MOUNT_SETATTR, mount, b"", AT_EMPTY_PATH, change, len(change))


def new_tmpfs(**options: str) -> int:
    """Return a new detached tmpfs: nosuid, nodev, noexec (Linux 5.2)."""
    context = _call("fsopen", _FSOPEN, b"tmpfs", 1)
    try:
        for key, value in options.items():
            _call(
                f"fsconfig {key}",
                _FSCONFIG,
                context,
                _FSCONFIG_SET_STRING,
                key.encode(),
                value.encode(),
                0,
            )
        _call("fsconfig", _FSCONFIG, context, _FSCONFIG_CMD_CREATE, 0, 0, 0)
        return _call("fsmount", _FSMOUNT, context, 1, ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC)
    finally:
        os.close(context)


def attach(tree: int, target: int) -> None:
    """Attach a detached mount to the directory that `target` is open on (Linux 5.2)."""
    _call("move_mount", _MOVE_MOUNT, tree, b"", target, b"", _MOVE_MOUNT_EMPTY_PATHS)


def mount(
    source: int | bytes | None, target: int, kind: bytes | None, flags: int, data: bytes = b""
) -> None:
    """Mount on the file or directory of the descriptor `target`; `source` may be one too."""
    if isinstance(source, int):
        source = b"/proc/self/fd/%d" % source
    target_path = b"/proc/self/fd/%d" % target
    _checked(_mount(source, target_path, kind, _Long(flags), data or None), "mount")


def unmount(root: int) -> None:
    """Unmount the mount whose root the descriptor is open on."""
    _checked(_umount2(b"/proc/self/fd/%d" % root, _MNT_DETACH), "umount2")


def file_system(descriptor: int) -> int:
    """Return the magic number, of statfs(2), of the file system that a file is in."""
    result = bytearray(256)
    _checked(_fstatfs(descriptor, _Long(address(result))), "fstatfs")
    return int(struct.unpack_from("l", result)[0])


def unshare(namespaces: int) -> None:
    """Move this process to new namespaces (`os.unshare` exists since Python 3.12)."""
    _checked(_unshare(namespaces), "unshare")


def setns(namespace: int) -> None:
    """Enter a namespace (`os.setns` exists since 3.12); only children enter a PID namespace."""
    _checked(_setns(namespace, 0), "setns")


def make_mounts_private() -> None:
    """Keep mount events of this namespace from reaching any other namespace."""
    _checked(_mount(None, b"/", None, _Long(MS_REC | MS_PRIVATE), None), "mount")


def change_root(tree: int) -> None:
    """Make `tree`, which is attached, this process's `/`, and unmount the old root."""
    os.fchdir(tree)
    _call("pivot_root", _PIVOT_ROOT, b".", b".")
    _checked(_umount2(b".", _MNT_DETACH), "umount2")
    os.chdir("/")


def prctl(option: int, *arguments: int) -> None:
    """Change an attribute of this process; arguments that are not given are zero."""
    words = (*arguments, 0, 0, 0, 0)[:4]
    _checked(_prctl(option, *[_Long(word) for word in words]), f"prctl {option}")


def keep_only(capabilities: int) -> None:
    """Reduce the capabilities of this process to a bit mask, also the inheritable ones."""
    header = struct.pack("Ii", 0x20080522, 0)
    low, high = capabilities & 0xFFFFFFFF, capabilities >> 32
    _checked(_capset(header, struct.pack("6I", low, low, low, high, high, high)), "capset")


def forbid_open_by_handle() -> None:
    """Forbid open_by_handle_at(2), which opens any file of a file system with CAP_DAC_READ_SEARCH.

    Needs no_new_privs. System calls of another architecture (i386, x32) kill the process.
    """
    if _OPEN_BY_HANDLE_AT is None or _AUDIT_ARCH is None:
        raise OSError(errno.ENOSYS, f"{os.strerror(errno.ENOSYS)} on {MACHINE}", "seccomp")
    load, equal, at_least, ret = 0x20, 0x15, 0x35, 0x06
    kill, allow, refuse = 0x80000000, 0x7FFF0000, 0x00050000 | errno.EPERM
    program = b"".join(
        struct.pack("HBBI", *line)
        for line in (
            (load, 0, 0, 4),
            (equal, 0, 5, _AUDIT_ARCH),
            (load, 0, 0, 0),
            (at_least, 3, 0, 0x40000000),
            (equal, 1, 0, _OPEN_BY_HANDLE_AT),
            (ret, 0, 0, allow),
            (ret, 0, 0, refuse),
            (ret, 0, 0, kill),
        )
    )
    text = bytearray(program)
    header = bytearray(struct.pack("HxxxxxxP", 8, address(text)))
    prctl(PR_SET_SECCOMP, 2, address(header))


def bpf(command: int, attributes: bytearray) -> int:
    """Run a BPF command; the kernel may write its result into the attributes."""
    return _call("bpf", _BPF, command, address(attributes), len(attributes))


def address(content: bytearray) -> int:
    """Return the address of the bytes, valid while `content` exists and keeps its size."""
    return _ctypes.addressof(_Byte.from_buffer(content))
