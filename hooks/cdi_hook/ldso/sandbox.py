# SPDX-License-Identifier: Apache-2.0
"""Runs ldconfig on a hostile image: it can read the image, and write to a private tmpfs only.

The hook itself stays outside: it prepares the mounts as detached trees. Only a forked child, which
execs ldconfig immediately, enters the namespaces and attaches the mounts there. ldconfig has:

- the image: a clone of its mounts, volumes included, read-only, nosuid, nodev, noexec;
- a tmpfs of 32 MiB for its configuration and its result, mounted over a directory that ldconfig
  does not need;
- its own mount, process, network, IPC and host name namespaces, without the old root;
- user 65533 with CAP_DAC_READ_SEARCH alone, no_new_privs, no open_by_handle_at, limits, no
  environment, no descriptor but /dev/null and a pipe. In a user namespace that has no such user
  (rootless, one user mapped) it stays root of that namespace with all its capabilities: fewer would
  open its /proc entry to the other processes of the container;
- killed at the deadline, and when the hook dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import sys

from cdi_base import child, files, process, syscalls
from cdi_base.errors import HookError, SkippedError, shown

MAX_CACHE = 16 << 20
MAX_TALK = 8192
HELPER = 65533
"""The user of ldconfig: no distribution assigns this number, while many programs run as 65534."""

_TMPFS_DIRECTORIES = ("proc", "dev", "sys", "run", "tmp", "mnt", "srv", "media", "opt", "home")
_SETUP_FAILED = 125
_SIGKILL = 9
_MAGICS = (b"glibc-ld.so.cache1.1", b"ld.so-1.7.0\0")
_MAX_SEAL = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def build_cache(ldconfig: int, root: int, configuration: bytes, until: float) -> bytes:
    """Return the ld.so.cache that ldconfig makes of the directories in `configuration`.

    Args:
        ldconfig: a descriptor of a static ldconfig.
        root: an `O_PATH` descriptor of the container's root.
        configuration: the content that ldconfig reads instead of etc/ld.so.conf.
        until: the deadline, on the clock of `time.monotonic`.

    Raises:
        SkippedError: the sandbox cannot be set up here: Linux is older than 5.12, or a rootless
            engine has no permission. ldconfig is not run without the sandbox.
        HookError: ldconfig failed, took too long, or wrote a file that is not a cache.
    """
    try:
        program = _sealed_copy(ldconfig)
        tree = syscalls.clone_tree(root)
        syscalls.make_harmless(tree)
        tmpfs, user = _new_tmpfs()
        mount_point, directory = _tmpfs_mount_point(tree)
        files.write_new("conf", configuration, directory=tmpfs)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        # For the child: when the first process of a PID namespace ends, the others are killed.
        syscalls.unshare(syscalls.CLONE_NEWPID)
    except OSError as error:
        raise SkippedError(_unavailable(f"{error.filename}: {error.strerror}")) from None
    arguments = ["ldconfig", "-X", "-i", "-f", f"/{directory}/conf", "-C", f"/{directory}/cache"]
    try:
        status, output = child.run_forked(
            lambda _input, output_pipe: _become(
                program, arguments, tree, tmpfs, mount_point, user, (null, output_pipe, output_pipe)
            ),
            until,
            most=MAX_TALK,
        )
    except TimeoutError:
        raise HookError(
            f"ldconfig was not done after {process.SECONDS} s", code="CDG-K101"
        ) from None
    if status == _SETUP_FAILED:
        raise SkippedError(_unavailable(output))
    if status != 0:
        raise HookError(f"ldconfig failed ({status}): {shown(output)}", code="CDG-K101")
    return _result(tmpfs)


def _unavailable(reason: str) -> str:
    return f"the sandbox for ldconfig cannot be set up here ({reason}); it needs Linux 5.12"


def _sealed_copy(program: int) -> int:
    """Return a sealed copy in memory, so that /proc/PID/exe does not lead to a file of the host."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        copy = os.memfd_create("ldconfig", flags | syscalls.MFD_EXEC)
    except OSError as error:
        if error.errno == errno.EINVAL:  # Linux before 6.3 has no MFD_EXEC and does not need it
            copy = os.memfd_create("ldconfig", flags)
        elif error.errno == errno.EACCES:  # vm.memfd_noexec=2
            bound = syscalls.clone_tree(program)
            syscalls.make_harmless(bound, executable=True)
            return bound
        else:
            raise
    size = os.fstat(program).st_size
    sent = 0
    while sent < size:
        count = os.sendfile(copy, program, sent, size - sent)
        if count == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO), "ldconfig")
        sent += count
    fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _MAX_SEAL)
    return copy


def _new_tmpfs() -> tuple[int, int]:
    """Return the tmpfs and its owner: 65533, or 0 in a user namespace without that user."""
    options = {"size": "32m", "nr_inodes": "64", "mode": "0700"}
    try:
        return syscalls.new_tmpfs(**options, uid=str(HELPER), gid=str(HELPER)), HELPER
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return syscalls.new_tmpfs(**options), 0


def _tmpfs_mount_point(tree: int) -> tuple[int, str]:
    """Return a directory of the image without libraries, and its name; links are rejected."""
    rules = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS
    for name in _TMPFS_DIRECTORIES:
        try:
            return syscalls.openat2(tree, name, os.O_PATH | os.O_DIRECTORY, rules), name
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                raise
    raise OSError(errno.ENOENT, f"the image has none of {', '.join(_TMPFS_DIRECTORIES)}", "/")


def _become(
    program: int,
    arguments: list[str],
    tree: int,
    tmpfs: int,
    mount_point: int,
    user: int,
    streams: tuple[int, int, int],
) -> None:
    """Build the sandbox, enter it, and exec, in the child. Never returns, and imports nothing."""
    sys.path[:] = []
    sys.meta_path[:] = []
    sys.path_importer_cache.clear()
    try:
        process.default_signals()
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        syscalls.unshare(
            syscalls.CLONE_NEWNS
            | syscalls.CLONE_NEWIPC
            | syscalls.CLONE_NEWNET
            | syscalls.CLONE_NEWUTS
        )
        syscalls.make_mounts_private()
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        syscalls.attach(tree, root)
        syscalls.attach(tmpfs, mount_point)
        syscalls.change_root(tree)
        if user:
            _drop_privileges(user)
        # After the change of user, which clears the signal. PID 1 sees no parent; if the hook died
        # before this line, the write below fails, because the pipe has no reader.
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _SIGKILL)
        os.write(1, b"\n")
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.forbid_open_by_handle()
        for kind, most in _LIMITS:
            process.limit(kind, most)
        os.execve(program, arguments, {})  # noqa: S606  (no shell is intended)
    except OSError as error:
        os.write(2, f"{error.filename}: {error.strerror}".encode("ascii", "replace"))
    finally:
        os._exit(_SETUP_FAILED)


_LIMITS = (
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_CPU, process.SECONDS),
    (resource.RLIMIT_AS, process.MAX_MEMORY),
    (resource.RLIMIT_FSIZE, MAX_CACHE),
    (resource.RLIMIT_NOFILE, 64),
)


def _drop_privileges(user: int) -> None:
    """Become another user with the capability to read all files, and no other."""
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    try:
        syscalls.keep_only(1 << syscalls.CAP_DAC_READ_SEARCH)
    except PermissionError:
        # An engine inside a container may lack it; then only world-readable files can be read.
        syscalls.keep_only(0)
    else:
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, 2, syscalls.CAP_DAC_READ_SEARCH)


def _result(tmpfs: int) -> bytes:
    """Return the cache that ldconfig wrote to the tmpfs."""
    try:
        content = files.read("cache", MAX_CACHE, directory=tmpfs)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise HookError(
                "the file that ldconfig wrote is not a cache", code="CDG-K101"
            ) from None
        raise HookError(f"ldconfig wrote no cache: {error.strerror}", code="CDG-K101") from None
    if not content.startswith(_MAGICS):
        raise HookError("the file that ldconfig wrote is not a cache", code="CDG-K101")
    return content
