# SPDX-License-Identifier: Apache-2.0
"""One run of ldconfig on a hostile image: it can read the image, and write on its own desk.

The hook itself stays outside: its mounts are prepared as descriptors that are attached nowhere, and
only a forked child, which at once becomes ldconfig, enters namespaces where they are put together.

- the image: a clone of its mounts, volumes included, read-only, nosuid, nodev, noexec;
- the desk: a tmpfs of 32 MiB, laid over a directory ldconfig needs nothing from, for its
  configuration and its result;
- its own mount, process, network, IPC and host name namespaces; the old root is gone from them;
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
"""Who ldconfig is: no distribution gives this number away; in the name of 65534 many run."""

_DESK_PLACES = ("proc", "dev", "sys", "run", "tmp", "mnt", "srv", "media", "opt", "home")
_SETUP_FAILED = 125
_SIGKILL = 9
_MAGICS = (b"glibc-ld.so.cache1.1", b"ld.so-1.7.0\0")
_MAX_SEAL = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def build_cache(ldconfig: int, root: int, configuration: bytes, until: float) -> bytes:
    """The ld.so.cache that ldconfig makes of the directories in `configuration`.

    Args:
        ldconfig: a descriptor of a static ldconfig.
        root: an `O_PATH` descriptor of the container's root.
        configuration: what ldconfig shall read instead of etc/ld.so.conf.
        until: the deadline, on the clock of `time.monotonic`.

    Raises:
        SkippedError: the sandbox cannot be set up here (Linux before 5.12, or what a rootless
            engine may not do). ldconfig is not run without it.
        HookError: ldconfig failed, took too long, or made something that is no cache.
    """
    try:
        program = _sealed_copy(ldconfig)
        tree = syscalls.clone_tree(root)
        syscalls.make_harmless(tree)
        desk, user = _new_desk()
        place, directory = _place_for_the_desk(tree)
        files.write_new("conf", configuration, directory=desk)
        nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        # For the child: the first process of a new PID namespace takes all others with it.
        syscalls.unshare(syscalls.CLONE_NEWPID)
    except OSError as error:
        raise SkippedError(_why(f"{error.filename}: {error.strerror}")) from None
    arguments = ["ldconfig", "-X", "-i", "-f", f"/{directory}/conf", "-C", f"/{directory}/cache"]
    try:
        status, output = child.run_forked(
            lambda _reading, talking: _become(
                program, arguments, tree, desk, place, user, (nothing, talking, talking)
            ),
            until,
            most=MAX_TALK,
        )
    except TimeoutError:
        raise HookError(
            f"ldconfig was not done after {process.SECONDS} s", code="CDG-K101"
        ) from None
    if status == _SETUP_FAILED:
        raise SkippedError(_why(output))
    if status != 0:
        raise HookError(f"ldconfig failed ({status}): {shown(output)}", code="CDG-K101")
    return _result(desk)


def _why(reason: str) -> str:
    return f"the sandbox for ldconfig cannot be set up here ({reason}); it needs Linux 5.12"


def _sealed_copy(program: int) -> int:
    """An anonymous copy that nobody can write to: /proc/PID/exe leads to no file of the host."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        copy = os.memfd_create("ldconfig", flags | syscalls.MFD_EXEC)
    except OSError as error:
        if error.errno == errno.EINVAL:  # Linux before 6.3 has no MFD_EXEC, and needs none
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


def _new_desk() -> tuple[int, int]:
    """The tmpfs, and the user it belongs to: 65533, or 0 where that is no user."""
    shape = {"size": "32m", "nr_inodes": "64", "mode": "0700"}
    try:
        return syscalls.new_tmpfs(**shape, uid=str(HELPER), gid=str(HELPER)), HELPER
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return syscalls.new_tmpfs(**shape), 0


def _place_for_the_desk(tree: int) -> tuple[int, str]:
    """A directory of the image, itself and not through a link, that holds no libraries."""
    rules = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS
    for name in _DESK_PLACES:
        try:
            return syscalls.openat2(tree, name, os.O_PATH | os.O_DIRECTORY, rules), name
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                raise
    raise OSError(errno.ENOENT, f"the image has none of {', '.join(_DESK_PLACES)}", "/")


def _become(
    program: int,
    arguments: list[str],
    tree: int,
    desk: int,
    place: int,
    user: int,
    streams: tuple[int, int, int],
) -> None:
    """The child: build the sandbox, enter it, exec. It never returns, and imports nothing."""
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
        here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        syscalls.attach(tree, here)
        syscalls.attach(desk, place)
        syscalls.change_root(tree)
        if user:
            _drop_privileges(user)
        # After the change of user, which clears it. PID 1 has no parent to compare with: a hook
        # that died before this line is noticed by the pipe, which nobody reads any more.
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _SIGKILL)
        os.write(1, b"\n")
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.forbid_open_by_handle()
        for kind, most in _LIMITS:
            process.limit(kind, most)
        os.execve(program, arguments, {})  # noqa: S606  (no shell is what is wanted)
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
    """Be another user who may read, and nothing else."""
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    try:
        syscalls.keep_only(1 << syscalls.CAP_DAC_READ_SEARCH)
    except PermissionError:
        # An engine inside a container may lack it; then what everybody may read must do.
        syscalls.keep_only(0)
    else:
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, 2, syscalls.CAP_DAC_READ_SEARCH)


def _result(desk: int) -> bytes:
    """The cache on the desk, if it is one."""
    try:
        content = files.read("cache", MAX_CACHE, directory=desk)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise HookError("what ldconfig made is not a cache", code="CDG-K101") from None
        raise HookError(f"ldconfig made no cache: {error.strerror}", code="CDG-K101") from None
    if not content.startswith(_MAGICS):
        raise HookError("what ldconfig made is not a cache", code="CDG-K101")
    return content
