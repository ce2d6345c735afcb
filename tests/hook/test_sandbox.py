# SPDX-License-Identifier: Apache-2.0
"""The sandbox of ldconfig: a static C program runs in it and tries to escape."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdi_base import process
from tests.attack import oracles
from tests.hook.conftest import ENVIRONMENT, MACHINE, Container, fingerprint

LDCONFIG = ("--ldconfig-path", "/sbin/ldconfig")

PROBE = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
extern char **environ;
static FILE *out;
static void tell(const char *what, long result) {
    fprintf(out, "%s=%s\n", what, result < 0 ? strerrorname_np(errno) : "ok");
}
static void limit(const char *what, int kind) {
    struct rlimit l; getrlimit(kind, &l); fprintf(out, "%s=%lu\n", what, (unsigned long)l.rlim_max);
}
int main(int argc, char **argv) {
    out = fopen(argv[argc - 1], "w");
    if (!out) return 3;
    fprintf(out, "glibc-ld.so.cache1.1\n");
    for (int i = 0; i < argc; i++) fprintf(out, "argv%d=%s\n", i, argv[i]);
    fprintf(out, "uid=%d gid=%d groups=%d pid=%d\n", getuid(), getgid(), getgroups(0, 0), getpid());
    fprintf(out, "environment=%s\n", environ[0] ? environ[0] : "");
    struct { unsigned version; int pid; } head = {0x20080522, 0};
    unsigned caps[6]; syscall(SYS_capget, &head, caps);
    fprintf(out, "caps=%x.%x\n", caps[3], caps[0]);
    fprintf(out, "no_new_privs=%d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    int death = 0; prctl(PR_GET_PDEATHSIG, &death); fprintf(out, "pdeathsig=%d\n", death);
    for (int fd = 0, own = fileno(out); fd < 1024; fd++)
        if (fd != own && fcntl(fd, F_GETFD) >= 0) fprintf(out, "fd%d\n", fd);
    limit("cpu", RLIMIT_CPU); limit("as", RLIMIT_AS); limit("nofile", RLIMIT_NOFILE);
    limit("fsize", RLIMIT_FSIZE); limit("core", RLIMIT_CORE);
    tell("write /etc", open("/etc/probe", O_CREAT | O_WRONLY, 0644));
    tell("write /opt/volume", open("/opt/volume/probe", O_CREAT | O_WRONLY, 0644));
    tell("write file", open("/opt/odd/file", O_WRONLY));
    tell("unlink", unlink("/opt/odd/file"));
    tell("device", open("/opt/odd/null", O_RDONLY));
    tell("secret", open("/opt/secret/file", O_RDONLY));
    tell("exec", execl("/opt/odd/program", "x", (char *)0));
    tell("canary", access(CANARY, F_OK));
    tell("canary below", access("/.." CANARY, F_OK));
    tell("mount", mount("none", "/opt", "tmpfs", 0, 0));
    tell("remount", mount(0, "/", 0, MS_REMOUNT | MS_BIND, 0));
    tell("umount", umount2("/proc", MNT_DETACH));
    tell("unshare", unshare(CLONE_NEWNS));
    tell("chroot", chroot("/etc"));
    tell("setuid", setresuid(0, 0, 0));
    tell("handle", syscall(SYS_open_by_handle_at, 0, 0, 0));
    tell("kill hook", kill(getppid() ? getppid() : 2, 0));
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = 9, .sin_addr.s_addr = htonl(0x7f000001)};
    tell("connect", connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&here, sizeof here));
    DIR *d = opendir("/proc"); struct dirent *e;
    while (d && (e = readdir(d))) if (e->d_name[0] != '.') fprintf(out, "tmpfs %s\n", e->d_name);
    fclose(out);
    return 0;
}
"""


@pytest.fixture
def probe(compiled: Callable[..., Path], container: Container) -> Callable[[str, str], str]:
    """Compile a static program, and install it where only root can change it."""

    def make(name: str, source: str) -> str:
        program = compiled(
            f"{name}-{container.bundle.parent.name}",
            source,
            "-static",
            f'-DCANARY="{container.canary}"',
        )
        program.chmod(0o755)
        return str(program)

    return make


@pytest.fixture
def findings(
    container: Container, probe: Callable[[str, str], str]
) -> Callable[[], dict[str, str]]:
    def look() -> dict[str, str]:
        program = probe("probe", PROBE)
        container.write("/opt/odd/file", "of the image").chmod(0o666)
        shutil.copy("/bin/true", container.root / "opt/odd/program")
        os.mknod(container.root / "opt/odd/null", 0o020666, os.makedev(1, 3))
        container.write("/opt/secret/file")
        (container.root / "opt/secret/file").chmod(0o600)
        (container.root / "opt/secret").chmod(0o700)
        (container.root / "opt/volume").mkdir()
        ended = container.hook("update-ldcache", "--folder", "/opt/odd", "--ldconfig-path", program)
        assert (ended.status, ended.said) == (0, "")
        lines = container.read("/etc/ld.so.cache").splitlines()[1:]
        return {line.partition("=")[0]: line.partition("=")[2] for line in lines}

    return look


def test_ldconfig_runs_without_privileges_and_environment(
    findings: Callable[[], dict[str, str]],
) -> None:
    results = findings()
    assert [results[f"argv{n}"] for n in range(7)] == [
        "ldconfig", "-X", "-i", "-f", "/proc/conf", "-C", "/proc/cache",
    ]  # fmt: skip
    assert results["uid"] == "65533 gid=65533 groups=0 pid=1"
    assert results["environment"] == ""
    assert results["caps"] == "0.4"
    assert results["no_new_privs"] == "1"
    assert results["pdeathsig"] == "9"
    assert [name for name in results if name.startswith("fd")] == ["fd0", "fd1", "fd2"]
    assert [results[name] for name in ("cpu", "as", "nofile", "fsize", "core")] == [
        "10", str(512 << 20), "64", str(16 << 20), "0",
    ]  # fmt: skip


def test_ldconfig_can_write_to_its_tmpfs_only(
    container: Container, findings: Callable[[], dict[str, str]]
) -> None:
    results = findings()
    assert {
        name: results[name]
        for name in results
        if results[name] == "ok" or results[name].startswith("E")
    } == {
        "write /etc": "EROFS",
        "write /opt/volume": "EROFS",
        "write file": "EROFS",
        "unlink": "EROFS",
        "device": "EACCES",
        "secret": "ok",
        "exec": "EACCES",
        "canary": "ENOENT",
        "canary below": "ENOENT",
        "mount": "EPERM",
        "remount": "EPERM",
        "umount": "EPERM",
        "unshare": "EPERM",
        "chroot": "EPERM",
        "setuid": "EPERM",
        "handle": "EPERM",
        "kill hook": "ESRCH",
        "connect": "ENETUNREACH",
    }
    assert {name for name in results if name.startswith("tmpfs")} == {"tmpfs conf", "tmpfs cache"}
    container.assert_host_untouched()


def test_descriptors_of_the_runtime(
    container: Container, findings: Callable[[], dict[str, str]]
) -> None:
    """A44: runc leaks descriptors into hooks; through a writable one a program could escape."""
    script = (
        f'for n in 3 4 5 6 7 8 9; do eval "exec $n<>{container.canary}/file"; done;'
        'exec env -u PWD -u OLDPWD "$@"'
    )
    container.within = ["sh", "-c", script, "sh"]
    assert [name for name in findings() if name.startswith("fd")] == ["fd0", "fd1", "fd2"]
    container.assert_host_untouched()


def test_volumes_are_read_only_too(
    container: Container, findings: Callable[[], dict[str, str]]
) -> None:
    container.with_mounts(
        f"mount --make-rprivate /; mount --bind {container.root} {container.root};"
        f"mkdir -p {container.root}/opt/volume; mount --bind {container.canary}/dir {container.root}/opt/volume"
    )
    (container.root / "opt/volume").mkdir()
    (container.root / "opt/volume").rmdir()
    results = findings()
    assert results["write /opt/volume"] == "EROFS"
    container.assert_host_untouched()


def test_no_mount_is_left_behind(
    container: Container, findings: Callable[[], dict[str, str]]
) -> None:
    """A26: no mount is left, also with shared propagation."""
    container.with_mounts(
        f"mount --make-rshared /; mount --bind {container.root} {container.root};"
        f"mount --make-shared {container.root}; cat /proc/self/mountinfo > {container.bundle}/before",
        f'cat /proc/self/mountinfo > {container.bundle}/after; exit "$status"',
    )
    findings()
    tables = [(container.bundle / name).read_text() for name in ("before", "after")]
    oracles.same_mounts(*tables)
    # The machine's own table: whatever else is mounted there meanwhile is not of this root.
    assert str(container.root) not in Path("/proc/self/mountinfo").read_text()


def sources(body: str) -> str:
    return "#include <unistd.h>\n#include <stdio.h>\nint main(int c, char **v) {" + body + "}"


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        (
            "fails",
            'fprintf(stderr, "no such luck"); return 7;',
            "ldconfig failed (7): 'no such luck'",
        ),
        ("crashes", "return *(volatile int *)0;", "ldconfig failed (-11): ''"),
        ("nothing", "return 0;", "ldconfig wrote no cache: No such file or directory"),
        ("rubbish", 'FILE *f = fopen(v[6], "w"); fputs("rubbish", f); return 0;', "is not a cache"),
        (
            "link",
            'return symlink("/etc/passwd", v[6]);',
            "ldconfig wrote no cache: ",  # and ELOOP, as the C library writes it
        ),
        (
            "huge",
            'FILE *f = fopen(v[6], "w"); for (;;) if (fputs("glibc-ld.so.cache1.1", f) < 0) return 9;',
            "(9)",
        ),
        (
            "floods",
            'for (int i = 0; i < 50000; i++) fprintf(stderr, "line %d\\n", i); return 1;',
            "failed (1): 'line 0",
        ),
    ],
)
def test_result_that_is_not_a_cache_is_refused(
    container: Container, probe: Callable[[str, str], str], name: str, body: str, said: str
) -> None:
    container.write("/etc/ld.so.cache", "old")
    program = probe(name, sources(body))
    ended = container.hook("update-ldcache", "--folder", "/opt/odd", "--ldconfig-path", program)
    assert ended.status == 1
    assert said in ended.said
    assert ended.said.count("\n") == 1
    assert container.read("/etc/ld.so.cache") == "old"


LOADER = "ldconfig -X -i -f /proc/conf"


def loaders_below(ancestor: int) -> list[Path]:
    """Return the directories in /proc of the descendants of a process that are ldconfig."""
    # Not all processes with this command line: tests run in parallel.
    parents, lines = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(status[1])
            lines[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
    return [
        Path(f"/proc/{pid}")
        for pid, line in lines.items()
        if os.fsencode(LOADER) in line and ancestor in _ancestors(pid, parents)
    ]


def _ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while pid := parents.get(pid, 0):
        yield pid


SLEEPER = 'fprintf(stderr, "x"); if (!fork()) for (;;) pause(); for (;;) pause();'


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_hook_that_is_killed_leaves_no_process(
    container: Container, probe: Callable[[str, str], str], number: signal.Signals
) -> None:
    """A runtime may kill the hook at its time limit; ldconfig and its children must end too."""
    program = probe("sleeper", sources(SLEEPER))
    hook = subprocess.Popen(
        [*container.launcher, "update-ldcache", "--folder", "/opt/odd", "--ldconfig-path", program],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd=container.root,
    )  # fmt: skip
    assert hook.stdin
    hook.stdin.write(container.state())
    hook.stdin.flush()
    hook.stdin.close()
    hook.stdin = None
    while len(running := loaders_below(hook.pid)) < 2:
        assert hook.poll() is None
        time.sleep(0.01)
    with (running[0] / "exe").open("rb") as executable:
        # CVE-2024-0135: a process that opens the program must not be able to change the host's file.
        seals = fcntl.fcntl(executable, fcntl.F_GET_SEALS)
    assert seals == fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    with oracles.adopting() as orphans:
        hook.send_signal(number)
        hook.communicate(timeout=60)
        assert hook.returncode == (-9 if number == signal.SIGKILL else 143)
        orphans.none_left()
    assert not any(folder.exists() for folder in running)


def test_a_program_that_does_not_end(
    container: Container, probe: Callable[[str, str], str]
) -> None:
    container.altered(process__SECONDS="1")
    program = probe("sleeper", sources(SLEEPER))
    with oracles.adopting() as orphans:
        ended = container.hook("update-ldcache", "--folder", "/opt/odd", "--ldconfig-path", program)
        orphans.none_left()
    assert ended.status == 1
    assert "was not done after 1 s" in ended.said
    assert ended.seconds < process.SECONDS - 1, "that is the usual deadline"


def test_program_that_ignores_signals_and_does_not_end(
    container: Container, probe: Callable[[str, str], str]
) -> None:
    container.altered(process__SECONDS="1")
    program = probe("deaf", sources("close(1); close(2); for (;;) pause();"))
    with oracles.adopting() as orphans:
        ended = container.hook("update-ldcache", "--folder", "/opt/odd", "--ldconfig-path", program)
        orphans.none_left()
    assert ended.status == 1
    assert ended.seconds < process.SECONDS - 1, "that is the usual deadline"


@pytest.mark.parametrize(
    "missing",
    [
        "clone_tree",
        "make_harmless",
        "new_tmpfs",
        "unshare",
        "attach",
        "change_root",
        "keep_only",
        "forbid_open_by_handle",
    ],
)
def test_without_the_whole_sandbox_ldconfig_is_not_run(container: Container, missing: str) -> None:
    """On an old kernel or under a rootless engine the drop-in is written, and the cache is kept."""
    failing = "lambda *_, **__: (_ for _ in ()).throw(OSError(38, 'Function not implemented', 'x'))"
    container.altered(**{f"syscalls__{missing}": failing})
    ended = container.hook("update-ldcache", "--folder", "/opt/odd", *LDCONFIG)
    assert ended.status == 0
    assert (
        "left out: the sandbox for ldconfig cannot be set up here (x: Function not implemented)"
        in ended.said
    )
    assert not (container.root / "etc/ld.so.cache").exists()
    assert container.read("/etc/ld.so.conf.d/00-cdi-gen.conf") == "/opt/odd\n"


def test_ldconfig_runs_although_memfds_are_not_executable(container: Container) -> None:
    """vm.memfd_noexec=2: the host's file itself, through a read-only mount of it."""
    container.altered(
        os__memfd_create="lambda *_: (_ for _ in ()).throw(PermissionError(13, 'Permission denied'))"
    )
    container.launcher[-1] = container.launcher[-1].replace("import sys", "import sys, os", 1)
    assert container.hook("update-ldcache", "--folder", "/opt/odd", *LDCONFIG).status == 0
    assert (container.root / "etc/ld.so.cache").exists()


def test_in_a_user_namespace_of_one_user(container: Container) -> None:
    """A rootless container may have only one user, the root of its namespace."""
    container.within = ["unshare", "-U", "-r", "-m"]
    before = fingerprint(container.canary)
    words = ("--link", "odd::/opt/x", "--folder", "/opt/odd", *LDCONFIG)
    ended = container.hook("create-container", *words)
    assert (ended.status, ended.said) == (0, "")
    assert (container.root / "etc/ld.so.cache").exists()
    assert fingerprint(container.canary) == before


def test_architecture_of_this_machine_is_supported() -> None:
    assert MACHINE in {"x86_64", "aarch64"}
