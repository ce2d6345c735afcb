# SPDX-License-Identifier: Apache-2.0
"""Mounts: what an operator put into the container, and what a hook could leave on the machine."""

from __future__ import annotations

import shutil

import pytest

from tests.attack.images import replace, ways_to
from tests.attack.oracles import Prints, fingerprint
from tests.attack.victim import Victim

PARAMS = "proc/driver/nvidia/params"
SAYS = "ModifyDeviceFiles: 1"
TMPFS_MAGIC = "0x01021994"

DRIVER = f"""

mount -t tmpfs none /proc/driver
mkdir /proc/driver/nvidia
printf 'ResmanDebugLevel: 4294967295\\n{SAYS}\\nOther: ""\\n' > /proc/driver/nvidia/params
"""
"""A host whose driver lets everybody make device nodes."""


def with_a_driver(victim: Victim, then: str = ":", after: str = 'exit "$status"') -> None:
    """The hook in a mount namespace with such a driver, and the container's own in `then`."""
    victim.with_mounts(
        f"{DRIVER}\n{then}\ncat /proc/self/mountinfo > {victim.folder}/mounts-before",
        f"cat /proc/self/mountinfo > {victim.folder}/mounts-after\n{after}",
    )


@pytest.mark.parametrize("way", ["absolute", "relative", "magic"])
@pytest.mark.parametrize("place", ["proc", "proc/driver", "proc/driver/nvidia", PARAMS])
def test_a_proc_that_is_a_link(hostile: Victim, place: str, way: str) -> None:
    """A24 proc-fake: runc's CVE-2019-16884 and its like; no link of it is followed."""
    (hostile.canary / "dir/driver/nvidia").mkdir(parents=True)
    (hostile.canary / "dir/driver/nvidia/params").write_text(f"{SAYS}\n")
    hostile.prints = fingerprint(hostile.canary)
    below = place.removeprefix("proc").strip("/")
    replace(hostile.root / place, ways_to(hostile.canary / "dir" / below)[way])
    with_a_driver(hostile)
    attempt = hostile.attack(*Victim.FULL).harmless(0)
    assert "disable-device-node-modification: left out: " in attempt.said


@pytest.mark.parametrize("kind", ["folder", "tmpfs", "the host's", "a bind", "a link to procfs"])
def test_a_proc_that_is_none(hostile: Victim, kind: str) -> None:
    """A24 proc-fake: CVE-2025-52881; only a procfs's own file is covered, whatever says it is one."""
    root = hostile.root
    fake = f"mkdir -p {root}/proc/driver/nvidia; echo '{SAYS}' > {root}/{PARAMS}"
    then = {
        "folder": fake,
        "tmpfs": f"mount -t tmpfs none {root}/proc; {fake}",
        "the host's": f"mount --rbind /proc {root}/proc",
        "a bind": f"mount -t proc proc {root}/proc; mount --bind /proc/driver {root}/proc/driver",
        "a link to procfs": f"mount -t proc proc {root}/sys; rmdir {root}/proc; ln -s sys {root}/proc",
    }[kind]
    with_a_driver(hostile, then)
    attempt = hostile.attack(*Victim.FULL).harmless(0, also="proc(/.*)?")
    assert "disable-device-node-modification: left out: " in attempt.said


def test_params_are_read_only(hostile: Victim) -> None:
    """A33 params-ro: nvidia-docker issue 1405. The container's root has no CAP_SYS_ADMIN.

    The test replaces the procfs by a tmpfs; test_in_a_runtime.py uses the driver's procfs.
    """
    root = hostile.root
    hostile.altered(syscalls__PROC_SUPER_MAGIC=TMPFS_MAGIC)
    fake = f"mkdir -p {root}/proc/driver/nvidia; cp /{PARAMS} {root}/{PARAMS}"
    container = f"setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin -- chroot {root} /bin/busybox sh -c"
    shutil.copy(
        shutil.which("busybox") or pytest.skip("needs a static busybox"), root / "bin/busybox"
    )
    tries = " ; ".join(
        f"{words} 2>&- && echo DONE {words}"
        for words in (
            f"/bin/busybox umount /{PARAMS}",
            f"/bin/busybox mount -o remount,rw /{PARAMS}",
            f"/bin/busybox rm -f /{PARAMS}",
            f"/bin/busybox mv /{PARAMS} /{PARAMS}2",
            f"/bin/busybox chmod 666 /{PARAMS}",
        )
    )
    with_a_driver(
        hostile,
        f"mount -t tmpfs none {root}/proc; {fake}",
        f"""
        grep {PARAMS} {hostile.folder}/mounts-after | grep {root}
        {container} '/bin/busybox cat /{PARAMS}; echo {SAYS} > /{PARAMS} && echo DONE writing' 2>&- || :
        {container} "{tries}" || :
        exit $status
        """,
    )
    attempt = hostile.attack(*Victim.FULL)
    before = hostile.folder / "mounts-before"
    after = (hostile.folder / "mounts-after").read_text().splitlines()
    new = [line for line in after if line not in before.read_text().splitlines()]
    assert len(new) == 1, new
    assert f" {root}/{PARAMS} ro,nosuid,nodev,noexec" in new[0]
    before.unlink()
    attempt.harmless(0)
    assert "DONE" not in attempt.stdout
    assert "ModifyDeviceFiles: 0\nOther" in attempt.stdout
    assert SAYS not in attempt.stdout


HOOKS = (
    ("create-symlinks", *Victim.LINK),
    ("enable-cuda-compat", "--host-driver-version", "550.54.15"),
    ("update-ldcache", "--folder", "/opt/odd"),
    ("update-ldcache", "--folder", "/opt/odd", "--ldconfig-path", "/sbin/ldconfig"),
    ("disable-device-node-modification",),
    ("update-application-profile",),
    Victim.FULL,
)


@pytest.mark.parametrize("words", HOOKS, ids=lambda words: " ".join((words[0], *words[3:4])))
def test_no_mount_is_left(hostile: Victim, words: tuple[str, ...]) -> None:
    """A26 mount-leak: with mounts that tell each other everything, and a volume that is shared."""
    hostile.watch_mounts(
        f"mkdir -p {hostile.root}/opt/volume; mount -t tmpfs none {hostile.root}/opt/volume;"
        f"mount --make-shared {hostile.root}/opt/volume"
    )
    machine = hostile.mounts_of_the_machine()
    hostile.attack(*words).harmless(0, also="opt/volume")
    assert hostile.mounts_of_the_machine() == machine


@pytest.mark.parametrize(
    ("place", "left_out"),
    [
        ("etc", 3), ("etc/ld.so.conf.d", 2), ("opt/odd", 1), ("opt", 1), ("dev", 0), ("proc", 0),
        ("usr/local/cuda/compat", 0), ("lib", 0), ("etc/nvidia", 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_a_volume_is_not_ours(both: Victim, place: str, left_out: int, kind: str) -> None:
    """A26 mount-leak, A14 every-parent-link: an operator's volume is read and never written to."""
    volume = both.canary / "dir"
    target = both.root / place
    target.mkdir(parents=True, exist_ok=True)
    shutil.copytree(target, volume, dirs_exist_ok=True, symlinks=True, ignore=_nodes)
    both.prints = fingerprint(both.canary)
    mount = f"mount --bind {volume} {target}"
    if kind == "tmpfs":
        mount = f"mount -t tmpfs none {target}; cp -a {volume}/. {target}"
    begun = both.folder / "begun"
    both.with_mounts(f"{mount}; touch {begun}", f'find {target} -cnewer {begun}; exit "$status"')
    attempt = both.attack(*Victim.FULL).harmless(0, lines=5)
    assert attempt.stdout == ""
    assert attempt.said.count("\n") == left_out
    assert _below(place, attempt.before) == _below(place, attempt.after)


def _below(place: str, prints: Prints | None) -> Prints:
    assert prints
    return {name: each for name, each in prints.items() if f"{name}/".startswith(f"{place}/")}


def _nodes(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("nvidia") and folder.endswith("dev")]


@pytest.mark.parametrize("name", ["etc/ld.so.cache", "etc/ld.so.conf.d/00-cdi-gen.conf", "opt/odd/libcuda.so.1", "etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"])  # fmt: skip
def test_a_file_that_is_a_mount(both: Victim, name: str) -> None:
    """A26 mount-leak: a file that an operator bound at a place of ours is left alone, with a line."""
    target = both.write(f"/{name}", "of the image")
    both.with_mounts(f"mount --bind {both.canary}/file {target}")
    attempt = both.attack(*Victim.FULL).harmless(0, lines=2)
    assert "mount" in attempt.said
    assert target.read_text() == "of the image"
