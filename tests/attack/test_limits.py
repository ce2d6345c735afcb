# SPDX-License-Identifier: Apache-2.0
"""What the hook is started with and runs out of: descriptors, masks, space, patience."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.attack import oracles
from tests.attack.images import plant
from tests.attack.victim import Attempt, Victim
from tests.hook.conftest import ENVIRONMENT, wait_for_handler

OLD = b"old\n"


@pytest.mark.parametrize("way", ["O_RDWR", "O_PATH"])
@pytest.mark.parametrize("ldconfig", [False, True], ids=["", "ldconfig"])
def test_descriptors_that_leak_into_it(hostile: Victim, way: str, ldconfig: bool) -> None:
    """A44 fd-hygiene: CVE-2024-21626; what ldconfig has is in tests/hook/test_sandbox.py."""
    path = str(hostile.canary / "file") if way == "O_RDWR" else "/"
    opened = os.open(path, getattr(os, way))
    copies = [os.dup(opened) for _ in range(57)]
    more = ("--ldconfig-path", "/sbin/ldconfig") if ldconfig else ()
    # An image that would use one of them.
    for name in ("etc/ld.so.cache", "etc/ld.so.conf.d/00-cdi-gen.conf", "opt/odd/libcuda.so.1"):
        (hostile.root / name).symlink_to(f"/proc/self/fd/{copies[0]}")
    attempt = hostile.attack(*Victim.FULL, *more, pass_fds=[opened, *copies])
    for descriptor in (opened, *copies):
        os.close(descriptor)
    attempt.harmless(0)
    assert not (hostile.root / "etc/ld.so.cache").is_symlink()


def test_no_descriptor_of_the_caller_stays_open(hostile: Victim) -> None:
    """A44 fd-hygiene: 3 to 60, whatever they are; seen while it waits for its state."""
    opened = os.open(hostile.canary / "file", os.O_RDWR)
    copies = [opened, *(os.dup(opened) for _ in range(57))]
    reading, writing = os.pipe()
    with subprocess.Popen(
        [*hostile.launcher, *Victim.FULL], stdin=reading, stderr=subprocess.PIPE, env=ENVIRONMENT,
        pass_fds=copies,
    ) as hook:  # fmt: skip
        wait_for_handler(hook, signal.SIGHUP)
        until = time.monotonic() + 5
        folder = Path(f"/proc/{hook.pid}/fd")
        while len(list(folder.iterdir())) > 8 and time.monotonic() < until:
            time.sleep(0.005)
        left = {os.readlink(each) for each in folder.iterdir()}
        hook.kill()
    for descriptor in (*copies, reading, writing):
        os.close(descriptor)
    assert not {each for each in left if str(hostile.folder) in each}


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_streams_that_are_closed(hostile: Victim, closed: str) -> None:
    """A44 fd-hygiene, A62 signals: a file of the image never becomes the stderr of a process."""
    script = " ".join(f"{n}>&-" for n in closed.split())
    hostile.within = ["sh", "-c", f'exec "$@" {script}', "sh", "env", "-u", "PWD", "-u", "OLDPWD"]
    attempt = hostile.attack(*Victim.FULL)
    attempt.harmless(int("0" in closed.split()))
    for path in (hostile.root / "etc").rglob("*"):
        assert path.is_symlink() or path.is_dir() or b"cdi-gen-hook:" not in path.read_bytes()


@pytest.mark.parametrize("words", [("no-such-hook",), ("enable-everything", "--flag", "x"), ("", "x"), ("\x1b[31m\n",)])  # fmt: skip
def test_a_hook_that_is_unknown(hostile: Victim, words: tuple[str, ...]) -> None:
    """A60 unknown-hook: a newer spec stops no container."""
    attempt = hostile.attack(*words).harmless(0)
    assert attempt.said.endswith("unknown hook: left out [CDG-K001]\n")
    assert attempt.before == attempt.after


@pytest.mark.parametrize("flag", ["--no-such", "--no-such=x", "-x", "stray", "--link", "--links"])
@pytest.mark.parametrize("name", ["create-container", "create-symlinks", "update-ldcache"])
def test_a_flag_that_is_unknown(hostile: Victim, name: str, flag: str) -> None:
    """A60 unknown-hook: a flag that is not known could be the one that matters."""
    attempt = hostile.attack(name, flag).harmless(2)
    assert attempt.before == attempt.after


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_modes_do_not_hang_on_the_umask(hostile: Victim, umask: int) -> None:
    """A61 umask-modes: what is made can be read by all and written by root."""
    before = oracles.fingerprint(hostile.root)
    shutil.rmtree(hostile.root / "etc")
    (hostile.root / "etc").mkdir(mode=0o755)
    hostile.attack(*Victim.FULL, umask=umask).harmless(0)
    made = oracles.fingerprint(hostile.root).keys() - before.keys()
    modes = {oct((hostile.root / name).stat().st_mode & 0o777) for name in made}
    assert modes <= {"0o644", "0o755"}
    assert (hostile.root / "etc/ld.so.conf.d").stat().st_mode & 0o7777 == 0o755
    assert (hostile.root / "etc/ld.so.cache").stat().st_mode & 0o7777 == 0o644


FULL_ROOTS = {
    "no space": "size=160k,nr_inodes=200",
    "no inodes": "size=4m,nr_inodes=34",
}


def _on_a_small_disk(victim: Victim, options: str, fill: str) -> Attempt:
    """The root is a tmpfs of its own, with the image in it; what is left there is copied out."""
    root, kept = shlex.quote(str(victim.root)), shlex.quote(str(victim.folder / "kept"))
    (victim.root / "etc/ld.so.cache").write_bytes(OLD)
    victim.with_mounts(
        f"""
        mkdir {kept}
        mount -t tmpfs -o {options} none {kept}
        cp -a {root}/. {kept}/
        mount -n --move {kept} {root}
        cd {root}
        {fill}
        """,
        f"mkdir -p {kept}/after; cp -a {root}/etc/. {kept}/after; exit $status",
    )
    return victim.attack(*Victim.FULL, prints=False)


@pytest.mark.parametrize("kind", FULL_ROOTS)
def test_a_full_root(hostile: Victim, kind: str) -> None:
    """A45 enospc: the old cache is whole, nothing is half made, one line says why."""
    fill = "cat /dev/zero > fill 2>&- || :"
    if kind == "no inodes":
        fill = "n=0; while touch run/$n; do n=$((n+1)); done 2>&- || :"
    attempt = _on_a_small_disk(hostile, FULL_ROOTS[kind], fill).harmless(1)
    assert "No space left on device" in attempt.said
    after = hostile.folder / "kept/after"
    assert (after / "ld.so.cache").read_bytes() == OLD
    assert not list(after.rglob(".cdi-gen-*"))
    assert all(path.is_dir() or path.stat().st_size for path in after.rglob("*"))


def test_a_file_that_may_not_grow(hostile: Victim) -> None:
    """A45 enospc, as a quota: RLIMIT_FSIZE ends a write in its middle."""
    (hostile.root / "etc/ld.so.cache").write_bytes(OLD)
    hostile.within = ["prlimit", "--fsize=40"]
    attempt = hostile.attack(*Victim.FULL).harmless(1)
    assert "File too large" in attempt.said
    assert (hostile.root / "etc/ld.so.cache").read_bytes() == OLD
    assert not list(hostile.root.rglob(".cdi-gen-*"))


@pytest.mark.parametrize("how", ["mount", "file system"])
def test_a_root_that_is_read_only(hostile: Victim, how: str) -> None:
    """A46 erofs: a mount is cloned and written to (crun's read-only containers), a disk is left."""
    root = shlex.quote(str(hostile.root))
    if how == "mount":
        hostile.with_mounts(f"mount --bind {root} {root}; mount -o remount,bind,ro {root}")
        hostile.attack(*Victim.FULL).harmless(0)
        assert (hostile.root / "etc/ld.so.cache").exists()
        return
    hostile.with_mounts(
        f"mkdir {hostile.folder}/t; mount -t tmpfs none {hostile.folder}/t; cp -a {root}/. {hostile.folder}/t/;"
        f"mount -n --move {hostile.folder}/t {root}; mount -o remount,ro {root}"
    )
    attempt = hostile.attack(*Victim.FULL).harmless(0, lines=5, read_only=True)
    assert "read-only: left out" in attempt.said
    assert attempt.before == attempt.after


@pytest.mark.parametrize("how", ["mount", "configuration"])
def test_a_read_only_root_that_is_to_be_left(hostile: Victim, how: str) -> None:
    """A67 read-only-roots: nothing of it changes, though it could; without the option all does."""
    root = shlex.quote(str(hostile.root))
    if how == "mount":
        hostile.with_mounts(f"mount --bind {root} {root}; mount -o remount,bind,ro {root}")
    else:
        config = {"root": {"path": "rootfs", "readonly": True}}
        (hostile.bundle / "config.json").write_text(json.dumps(config))
    words = (*Victim.FULL, "--path", "/opt/odd", "--mode", "700")
    attempt = hostile.attack(*words, "--leave-read-only-root")
    attempt.harmless(0, lines=6, read_only=True)
    assert attempt.said.count("read-only: left out") == 5
    assert attempt.before == attempt.after
    hostile.attack(*Victim.FULL).harmless(0)
    assert (hostile.root / "etc/ld.so.cache").exists()


def test_a_root_that_is_not_read_only_is_not_left(hostile: Victim) -> None:
    """A67 read-only-roots: the option is about read-only containers and no others."""
    hostile.attack(*Victim.FULL, "--leave-read-only-root").harmless(0)
    assert (hostile.root / "etc/ld.so.cache").exists()


ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL)
MOMENTS = 20


def _moments(victim: Victim, number: int, count: int) -> None:
    """End the hook by a signal at so many moments of its life, evenly spread."""
    (victim.root / "etc/ld.so.cache").write_bytes(OLD)
    begun = time.monotonic()
    victim.attack(*Victim.FULL, prints=False).harmless(0)
    life = time.monotonic() - begun
    whole = (victim.root / "etc/ld.so.cache").read_bytes()
    ended_early = 0
    for moment in range(count):
        (victim.root / "etc/ld.so.cache").write_bytes(OLD)
        (victim.root / "opt/odd/libcuda.so.1").unlink(missing_ok=True)
        status, said = _ended_after(victim, number, life * moment / count)
        assert (victim.root / "etc/ld.so.cache").read_bytes() in {OLD, whole}
        oracles.sentinel(victim.prints, oracles.fingerprint(victim.canary))
        if "KeyboardInterrupt" in said and number == signal.SIGINT:
            # Python's own answer, while it starts and nothing of ours has run.
            assert status in {1, -number}, said
        elif number != signal.SIGKILL:
            # Before the handlers are there, a signal ends it as it ends any program.
            assert status in {0, 128 + number, -number}, said
            assert said.count("\n") <= 1
            assert not list(victim.root.rglob(".cdi-gen-*"))
        ended_early += status != 0
    assert ended_early


def _ended_after(victim: Victim, number: int, seconds: float) -> tuple[int, str]:
    with oracles.adopting() as orphans:
        with subprocess.Popen(
            [*victim.sandbox, *victim.launcher, *Victim.FULL],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            cwd=victim.root,
            text=True,
        ) as hook:
            assert hook.stdin
            hook.stdin.write(victim.state().decode())
            hook.stdin.flush()
            time.sleep(seconds)
            hook.send_signal(number)
            _, said = hook.communicate(timeout=60)
        orphans.none_left()
    return hook.returncode, said


@pytest.mark.parametrize("number", ENDINGS)
def test_a_signal_at_any_moment(hostile: Victim, number: signal.Signals) -> None:
    """A62 signals: old or new, no litter, 128 + the number; killed, it may leave a temporary name."""
    _moments(hostile, number, MOMENTS)


@pytest.mark.nightly
@pytest.mark.parametrize("number", ENDINGS)
def test_a_signal_at_very_many_moments(hostile: Victim, number: signal.Signals) -> None:
    """A62 signals, 500 of them."""
    _moments(hostile, number, 500)


def test_a_listener_that_goes_away(hostile: Victim) -> None:
    """A62 signals: SIGPIPE, from a stderr that nobody reads, stops no container."""
    hostile.within = ["sh", "-c", '"$@" 2>&1 >&3 | :; exit 0', "sh", "env", "-u", "PWD", "-u", "OLDPWD"]  # fmt: skip
    hostile.attack("no-such-hook").harmless(0)
    reading, writing = os.pipe()
    os.close(reading)
    hostile.within = ["sh", "-c", f'exec "$@" 2>/proc/self/fd/{writing}', "sh", "env", "-u", "PWD", "-u", "OLDPWD"]  # fmt: skip
    plant(hostile.root / "etc/ld.so.conf", "pipe")
    attempt = hostile.attack(*Victim.FULL, pass_fds=[writing])
    os.close(writing)
    attempt.harmless(1)


def test_signals_that_are_ignored_by_the_caller(hostile: Victim) -> None:
    """A62 signals: what a daemon ignores does not stay ignored in its hooks."""
    reading, writing = os.pipe()
    ignoring = ["sh", "-c", 'trap "" TERM; exec "$@"', "sh"]
    with subprocess.Popen(
        [*ignoring, *hostile.sandbox, *hostile.launcher, *Victim.FULL],
        stdin=reading,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as hook:
        wait_for_handler(hook, signal.SIGTERM)
        hook.terminate()
        assert hook.wait(60) == 128 + signal.SIGTERM
    os.close(reading)
    os.close(writing)
