# SPDX-License-Identifier: Apache-2.0
"""The lab's door: make a Debian root the real ``/`` of private namespaces, and run commands there.

Started by ``engines.py``, which sends one JSON line saying how the lab is furnished and then
one for each command, and gets one line back for each. A command may be left running, with its
output in a file, to be signalled and waited for later. Everything started inside ends when
standard input does, and nothing of it stays on the machine:

    outer   stays on the machine; removes the lab's control groups at the end
    joiner  enters those groups, then leaves the machine's namespaces
    init    process 1 of the lab: furnishes it, then reaps orphans
    server  runs the commands

Only the standard library, all of it imported here: after pivot_root(2) the interpreter's own
files are out of sight.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

# <sched.h>
NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
NEWPID, NEWNET = 0x20000000, 0x40000000
# <sys/mount.h>
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT = 1, 2, 4, 8, 32
BIND, REC, PRIVATE, SHARED = 4096, 16384, 1 << 18, 1 << 20
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1

CGROUPS = "/sys/fs/cgroup"
GROUP = "cdi-gen-lab-"
"""A lab's control groups are called so, and the id of its first process."""
OLD = "/.machine"

USUAL_DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    ("fuse", 10, 229),
)
USUAL_LINKS = (
    ("fd", "/proc/self/fd"),
    ("ptmx", "pts/ptmx"),
    ("stdin", "fd/0"),
    ("stdout", "fd/1"),
    ("stderr", "fd/2"),
)

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any) -> None:
    """Call a C library function that returns -1 on failure."""
    words = [os.fsencode(a) if isinstance(a, str) else a for a in arguments]
    if getattr(libc, name)(*words) == -1:
        number = ctypes.get_errno()
        shown = " ".join(str(a) for a in arguments if a not in (None, ""))
        raise OSError(number, f"{os.strerror(number)}: {name} {shown}")


def mount(
    kind: str | None, target: str, *, source: str | None = None, flags: int = 0, options: str = ""
) -> None:
    """mount(2), making the mount point if there is none."""
    os.makedirs(target, exist_ok=True)
    call("mount", source or kind, target, kind, ctypes.c_ulong(flags), options)


def main() -> None:
    """Be all four processes, one after the other."""
    plan = json.loads(sys.stdin.buffer.readline())
    remove(orphans())
    groups = own_groups(f"{GROUP}{os.getpid()}")
    try:
        status = in_child(lambda: join_and_leave(plan, groups))
    finally:
        remove(groups)
    sys.exit(status)


def join_and_leave(plan: dict[str, Any], groups: Sequence[str]) -> int:
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    for group in groups:
        write(f"{group}/cgroup.procs", str(os.getpid()))
    try:
        call("unshare", NEWNS | NEWPID | NEWNET | NEWUTS | NEWIPC | NEWCGROUP)
    except OSError as error:
        answer({"error": str(error)})
        return 1
    if plan["cgroup"] == "v2":
        # On a machine with both versions, other groups are of the first one.
        for group in (group for group in groups if os.path.exists(f"{group}/cgroup.controllers")):
            # A group that has processes gives no controllers to the groups below it.
            os.mkdir(f"{group}/door")
            write(f"{group}/door/cgroup.procs", str(os.getpid()))
    return in_child(lambda: init(plan))


def init(plan: dict[str, Any]) -> int:
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    id_on_the_machine = int(os.readlink("/proc/self"))  # this is still the machine's /proc
    try:
        furnish(plan)
    except (OSError, subprocess.CalledProcessError) as error:
        answer({"error": str(error)})
        return 1
    answer({"init": id_on_the_machine})
    server = os.fork()
    if server == 0:
        leave(serve())
    while True:
        child, status = os.wait()
        if child == server:
            return os.waitstatus_to_exitcode(status)


def furnish(plan: dict[str, Any]) -> None:
    """Everything between an empty mount namespace and a machine that runs engines."""
    os.umask(0)
    call("mount", None, "/", None, ctypes.c_ulong(REC | PRIVATE), None)
    scratch = plan["scratch"]
    mount("tmpfs", scratch, options="mode=755")
    root = f"{scratch}/root"
    everywhere = [source for source, at in plan["layers"] if at == "/"]
    everywhere = [*plan["under"], plan["root"], *everywhere]
    overlay(root, scratch, everywhere)
    os.chdir(root)
    os.makedirs(f".{OLD}", exist_ok=True)
    subprocess.run(["pivot_root", ".", f".{OLD}"], check=True)
    os.chdir("/")

    mount("proc", "/proc", flags=NOSUID | NODEV | NOEXEC)
    mount("sysfs", "/sys", flags=RDONLY | NOSUID | NODEV | NOEXEC)
    mount("tmpfs", "/run", options="mode=755")
    mount("tmpfs", "/tmp", options="mode=1777")
    # An overlay cannot lie on an overlay: the engines' own storage needs a plain file system.
    mount("tmpfs", "/var/lib/containers", options="mode=755")
    owner = f"uid={plan['user']},gid={plan['user']},mode=700"
    mount("tmpfs", "/home/user", options=owner)
    mount("tmpfs", f"/run/user/{plan['user']}", options=owner)
    for number, at in enumerate(dict.fromkeys(at for _, at in plan["layers"] if at != "/")):
        on_top = [OLD + source for source, place in plan["layers"] if place == at]
        below = [OLD + folder + at for folder in everywhere]
        shelf = f"/run/lab/{number}"
        overlay(at, shelf, [*(folder for folder in below if os.path.isdir(folder)), *on_top])
    control_groups(plan["cgroup"])
    devices(plan)
    for source, inside, writable in plan["binds"]:
        bind(OLD + source, inside, writable=writable)
    call("umount2", OLD, MNT_DETACH)
    os.rmdir(OLD)
    call("mount", None, "/", None, ctypes.c_ulong(REC | SHARED), None)  # as on every machine
    call("sethostname", "lab", 3)
    os.umask(0o022)


def overlay(target: str, shelf: str, lower: Sequence[str]) -> None:
    """Mount ``lower`` folders over each other, the last uppermost; writes go to ``shelf``."""
    for folder in ("up", "work"):
        os.makedirs(f"{shelf}/{folder}", mode=0o755)
    os.chmod(f"{shelf}/up", os.stat(lower[-1]).st_mode & 0o7777)
    stack = ":".join(escaped(folder) for folder in reversed(lower))
    options = f"lowerdir={stack},upperdir={shelf}/up,workdir={shelf}/work"
    mount("overlay", target, options=options)


def escaped(path: str) -> str:
    for character in "\\:,":
        path = path.replace(character, "\\" + character)
    return path


def control_groups(view: str) -> None:
    if view == "v2":
        mount("cgroup2", CGROUPS)
        # A group that has processes of its own cannot hand controllers to groups below it.
        os.mkdir(f"{CGROUPS}/lab")
        write(f"{CGROUPS}/lab/cgroup.procs", str(os.getpid()))
        return
    # Without the "unified" folder of a hybrid machine, which crun refuses.
    mount("tmpfs", CGROUPS, options="mode=755")
    for controllers, _ in memberships():
        if controllers:
            name = controllers.removeprefix("name=")
            options = controllers if name == controllers else f"none,{controllers}"
            mount("cgroup", f"{CGROUPS}/{name}", options=options)


def devices(plan: dict[str, Any]) -> None:
    """A private /dev: the usual nodes, then the caller's."""
    mount("tmpfs", "/dev", options="mode=755")
    mount("devpts", "/dev/pts", options="newinstance,ptmxmode=0666,mode=620")
    mount("tmpfs", "/dev/shm", options="mode=1777")
    mount("mqueue", "/dev/mqueue")
    for name, major, minor in USUAL_DEVICES:
        os.mknod(f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
    for name, target in USUAL_LINKS:
        os.symlink(target, f"/dev/{name}")
    if plan["dev_from"]:
        copy_nodes(OLD + plan["dev_from"], "/dev")
    for path, major, minor, mode in plan["devices"]:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        os.mknod(path, stat.S_IFCHR | mode, os.makedev(major, minor))


def copy_nodes(source: str, target: str) -> None:
    for entry in os.scandir(source):
        there = f"{target}/{entry.name}"
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.makedirs(there, mode=stat.S_IMODE(status.st_mode), exist_ok=True)
            copy_nodes(entry.path, there)
        elif os.path.lexists(there):
            continue  # one of the usual nodes
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(entry.path), there)
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            os.mknod(there, status.st_mode, status.st_rdev)
            os.chown(there, status.st_uid, status.st_gid)


def bind(source: str, inside: str, *, writable: bool) -> None:
    """Show ``source``, a folder or a file, at ``inside``."""
    folder = inside if os.path.isdir(source) else os.path.dirname(inside)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        # /proc and /sys take no new folders, but a tmpfs over an existing one does.
        if error.errno not in (errno.ENOENT, errno.EROFS, errno.EPERM, errno.EACCES):
            raise
        existing = folder
        while not os.path.isdir(existing):
            existing = os.path.dirname(existing)
        mount("tmpfs", existing, options="mode=755")
        os.makedirs(folder)
    if folder != inside and not os.path.exists(inside):
        write(inside, "")
    call("mount", source, inside, None, ctypes.c_ulong(BIND | REC), None)
    if not writable:
        call("mount", None, inside, None, ctypes.c_ulong(BIND | REMOUNT | RDONLY), None)


def serve() -> int:
    started: dict[int, subprocess.Popen[bytes]] = {}
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "log" in request:
            answer(start(request, started))
        elif "signal" in request:
            started[request["pid"]].send_signal(request["signal"])
            answer({})
        elif "pid" in request:
            answer({"returncode": started[request["pid"]].poll()})
        else:
            answer(run(request))
    return 0


def start(request: dict[str, Any], started: dict[int, subprocess.Popen[bytes]]) -> dict[str, Any]:
    """Start a command that goes on; what it prints is added to the file ``log``."""
    try:
        with open(request["log"], "ab") as log:
            process = popen(request, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    except OSError as error:
        return {"error": str(error)}
    started[process.pid] = process
    return {"pid": process.pid}


def popen(request: dict[str, Any], **streams: Any) -> subprocess.Popen[bytes]:
    user = request["user"]
    identity: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user else {}
    return subprocess.Popen(
        request["argv"],
        cwd=request["cwd"],
        env=request["env"],
        start_new_session=True,
        **streams,
        **identity,
    )


def run(request: dict[str, Any]) -> dict[str, Any]:
    pipe = subprocess.PIPE
    try:
        process = popen(request, stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        return {"error": str(error)}
    overdue = False
    sent = request["input"].encode("utf-8", "surrogateescape")
    try:
        out, err = process.communicate(sent, timeout=request["timeout"])
    except subprocess.TimeoutExpired:
        overdue = True
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    return {
        "returncode": process.returncode,
        "stdout": out.decode("utf-8", "surrogateescape"),
        "stderr": err.decode("utf-8", "surrogateescape"),
        "overdue": overdue,
    }


def memberships() -> list[tuple[str, str]]:
    """The control groups of this process: (controllers, path); no controllers means v2."""
    with open("/proc/self/cgroup", encoding="ascii") as file:
        fields = [line.rstrip("\n").split(":", 2) for line in file]
    return [(controllers, path) for _, controllers, path in fields]


def orphans() -> list[str]:
    """The groups of labs that were killed, which could not remove their own."""
    groups = glob.glob(f"{CGROUPS}/**/{GROUP}*", recursive=True)
    return [group for group in groups if not os.path.exists(f"/proc/{group.rpartition('-')[2]}")]


def own_groups(name: str) -> list[str]:
    """New groups below the present ones, one in each hierarchy that lets us make one."""
    made = []
    for controllers, path in memberships():
        hybrid = os.path.isdir(f"{CGROUPS}/unified")
        folder = controllers.removeprefix("name=") or ("unified" if hybrid else ".")
        parent = f"{CGROUPS}/{folder}{path.rstrip('/')}"
        if not os.path.exists(f"{parent}/cgroup.procs"):
            continue
        group = f"{parent}/{name}"
        try:
            os.mkdir(group)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                continue
            raise
        made.append(group)
        if controllers == "cpuset":  # a v1 cpuset is born empty and takes no process then
            for setting in ("cpuset.cpus", "cpuset.mems"):
                with open(f"{parent}/{setting}", encoding="ascii") as inherited:
                    write(f"{group}/{setting}", inherited.read())
    return made


def remove(groups: Sequence[str]) -> None:
    """Remove groups and those that engines made below; the kernel may need a moment."""
    for group in groups:
        for _ in range(50):
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
            if not os.path.isdir(group):
                break
            time.sleep(0.02)


def in_child(work: Callable[[], int]) -> int:
    """Do ``work`` in a forked process and return its exit status."""
    child = os.fork()
    if child == 0:
        leave(work())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def leave(status: int) -> NoReturn:
    os._exit(status & 0xFF)


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def answer(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
