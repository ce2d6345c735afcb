# SPDX-License-Identifier: Apache-2.0
"""What a hook reads through names of the image: what it must not copy, and what it must not open."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from cdi_base import syscalls
from cdi_hook.ldso import cache_file
from tests.attack import oracles
from tests.attack.audit import Audit
from tests.attack.images import replace
from tests.attack.test_files import with_musl
from tests.attack.victim import Victim
from tests.hook.conftest import MACHINE
from tests.hook.shared_objects import shared_object

SECRET = "only-the-hosts-root-may-know"
MUSL_PATH = f"etc/ld-musl-{MACHINE}.path"
CONF, INCLUDED, CACHE = "etc/ld.so.conf", "etc/ld.so.conf.d/x.conf", "etc/ld.so.cache"
LIBRARY, COMPAT = "lib/libfake.so.1", "usr/local/cuda/compat/libcuda.so.999.1"
NEWER = f"lib/glibc-hwcaps/{'x86-64-v2' if MACHINE == 'x86_64' else 'v2'}/libfake.so.1"


def _lines(_victim: Victim) -> bytes:
    """A folder of each name is there, so that a line that is copied results in an entry."""
    return f"/{SECRET}\n".encode()


def _cache(_victim: Victim) -> bytes:
    entry = cache_file.Entry(b"libfake.so.1", b"/lib/libfake.so.1", 0x303)
    return cache_file.build([entry], [], SECRET.encode())


def _library(_victim: Victim) -> bytes:
    return shared_object(f"lib{SECRET}.so.1".encode(), MACHINE)


COPIED: dict[str, Callable[[Victim], bytes]] = {
    MUSL_PATH: _lines,
    CONF: _lines,
    INCLUDED: _lines,
    CACHE: _cache,
    LIBRARY: _library,
    NEWER: _library,
}
"""Each file whose content, or a part of it, ends in another; and a secret of its form."""

WAYS = ("volume", "file that is mounted", "link in a volume", "folder of a volume")


def hidden(victim: Victim, name: str, way: str) -> None:
    """Where the image has `name`, make a link to a secret of root's in an operator's volume."""
    volume = victim.folder / "volume"
    (volume / "inner").mkdir(parents=True)
    secret = volume / "inner/secret"
    secret.write_bytes(COPIED[name](victim))
    secret.chmod(0o600)
    (volume / "link").symlink_to("inner/secret")
    (victim.root / "vol").mkdir()
    up = "../" * name.count("/")
    target = {"volume": "vol/inner/secret", "link in a volume": "vol/link"}
    bind = f"mount --bind {volume} {victim.root}/vol"
    if way == "file that is mounted":
        (victim.root / "vol/file").touch()
        bind = f"mount --bind {secret} {victim.root}/vol/file"
        target[way] = "vol/file"
    if way == "folder of a volume":
        folder, _, last = name.rpartition("/")
        secret.rename(volume / "inner" / last)
        if (victim.root / folder).is_dir():
            shutil.copytree(
                victim.root / folder, volume / "inner", symlinks=True, dirs_exist_ok=True
            )
        replace(victim.root / folder, "../" * folder.count("/") + "vol/inner")
    else:
        replace(victim.root / name, up + target[way])
    victim.with_mounts(bind)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", COPIED)
def test_a_secret_of_a_volume(both: Victim, name: str, way: str) -> None:
    """A63 content-copied: through a link of the image, into a file that the container's user reads."""
    with_musl(both)
    hidden(both, name, way)
    (both.root / SECRET).mkdir()
    both.write(f"{SECRET}/libany.so.1", shared_object(b"libany.so.1", MACHINE))
    attempt = both.attack(*Victim.FULL, prints=False)
    oracles.nothing_copied(both.root, SECRET.encode())
    attempt.harmless(0, lines=3)


@pytest.mark.parametrize(
    "what", ["self/mountinfo", "self/environ", "timer_list", "1/environ", "self/fd/0"]
)
@pytest.mark.parametrize("name", [MUSL_PATH, CONF, INCLUDED])
def test_what_procfs_tells_root(both: Victim, name: str, what: str) -> None:
    """A63 content-copied: the host's mounts, the hook's environment, what engines mask only later."""
    with_musl(both)
    both.with_mounts(f"mount -t proc proc {both.root}/proc")
    replace(both.root / name, "../" * name.count("/") + f"proc/{what}")
    attempt = both.attack(*Victim.FULL, prints=False)
    for secret in (str(both.folder), "PATH=", "Timer List Version", '"ociVersion"'):
        oracles.nothing_copied(both.root, secret.encode())
    attempt.harmless(0, lines=3)


def test_a_secret_of_the_image(both: Victim) -> None:
    """A63 content-copied: a file of the image itself that its user may not read, as etc/shadow."""
    with_musl(both)
    secret = both.write("etc/shadow", f"root:{SECRET}:1::::::\n")
    secret.chmod(0o600)
    replace(both.root / MUSL_PATH, "shadow")
    attempt = both.attack(*Victim.FULL)
    oracles.nothing_copied(both.root, SECRET.encode())
    attempt.harmless(0)
    assert attempt.said.endswith("not readable by all users [CDG-K007]\n")


def test_a_node_in_a_volume(both: Victim) -> None:
    """A63 content-copied: which nodes a volume has is told by no profile of the container's."""
    volume = both.folder / "volume"
    volume.mkdir()
    os.mknod(volume / "node", 0o020600, os.makedev(195, 42))
    (both.root / "vol").mkdir()
    both.with_mounts(f"mount --bind {volume} {both.root}/vol")
    (both.root / "dev/nvidia7").symlink_to("../vol/node")
    both.attack(*Victim.FULL).harmless(0)
    profile = both.root / "etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"
    assert '"EGLVisibleDGPUDevices",0x1]' in profile.read_text()


@pytest.mark.parametrize("name", [CONF, INCLUDED])
def test_a_configuration_that_its_operator_mounts(both: Victim, name: str) -> None:
    """The other side: a file that is mounted at the loader's own place is meant for the loader."""
    configuration = both.folder / "x.conf"
    configuration.write_text("/opt/theirs\n")
    configuration.chmod(0o600)
    both.write("opt/theirs/libtheirs.so.1", shared_object(b"libtheirs.so.1", MACHINE))
    place = both.write(name)
    both.with_mounts(f"mount --bind {configuration} {place}")
    both.attack(*Victim.FULL, prints=False).harmless(0)
    assert both.cached()["libtheirs.so.1"] == "/opt/theirs/libtheirs.so.1"


def test_libraries_that_an_operator_mounts(both: Victim) -> None:
    """The other side: a volume's libraries that everybody may read are found, by links too."""
    volume = both.folder / "volume"
    volume.mkdir()
    (volume / "libvol.so.1").write_bytes(shared_object(b"libvol.so.1", MACHINE))
    (both.root / "vol").mkdir()
    both.with_mounts(f"mount --bind {volume} {both.root}/vol")
    replace(both.root / "lib/libvol.so.1", "../vol/libvol.so.1")
    both.attack(*Victim.FULL, prints=False).harmless(0)
    assert both.cached()["libvol.so.1"] == "/lib/libvol.so.1"


KERNEL = {
    "proc": "kmsg",
    "sysfs": "kernel/notes",
    "tracefs": "README",
    "debugfs": "devices_deferred",
    "securityfs": "lsm",
    "cgroup2": "cgroup.procs",
    "bpf": "",
    "binfmt_misc": "status",
    "mqueue": "",
    "pstore": "",
    "fusectl": "",
    "configfs": "",
    "efivarfs": "",
}
"""File systems of the kernel's, and a file that each has anywhere; none: its folder itself."""

NAMED = (CONF, INCLUDED, MUSL_PATH, CACHE, LIBRARY, NEWER, COMPAT, "opt/odd/libcuda.so.550.1")


def _is_there(kind: str) -> bool:
    mounting = ["unshare", "-m", "mount", "-t", kind, "none", "/mnt"]
    return subprocess.run(mounting, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize(
    ("name", "kind"),
    [(COMPAT, kind) for kind in KERNEL]
    + [(name, kind) for name in NAMED if name != COMPAT for kind in ("proc", "sysfs")],
)
def test_a_file_of_the_kernels(hostile: Victim, name: str, kind: str) -> None:
    """A64 kernel-file-systems: reading /proc/kmsg takes the host's kernel log away.

    One list of kinds holds for every name: each kind at one name, and two kinds at each name.
    """
    if not _is_there(kind):
        pytest.skip(f"no {kind} here")
    with_musl(hostile)
    place = hostile.root / "kernel"
    place.mkdir()
    hostile.with_mounts(f"mount -t {kind} none {place}")
    hostile.traced()
    up = "../" * name.count("/")
    if KERNEL[kind]:
        replace(hostile.root / name, f"{up}kernel/{KERNEL[kind]}")
    else:
        folder = name.rpartition("/")[0]
        replace(hostile.root / folder, f"{'../' * folder.count('/')}kernel")
    attempt = hostile.attack(*Victim.FULL, prints=False)
    _audit(hostile).kept_away_from(place)
    attempt.audited().harmless(0, 1, lines=4)


def _audit(victim: Victim) -> Audit:
    return Audit(victim.trace.read_text(errors="replace"), victim.root)


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize("what", ["kmsg", "self/mountinfo", "1/root/etc", "sys/kernel", "self/fd"])
@pytest.mark.parametrize("line", ["include /kernel/{}", "include /kernel/{}/*", "/kernel/{}"])
def test_a_line_that_names_the_kernels(hostile: Victim, line: str, what: str) -> None:
    """A64 kernel-file-systems: no link is needed, for a configuration may name any path."""
    place = hostile.root / "kernel"
    place.mkdir()
    hostile.with_mounts(f"mount -t proc none {place}")
    hostile.traced()
    hostile.write(CONF, f"{line.format(what)}\ninclude /etc/ld.so.conf.d/*.conf\n")
    attempt = hostile.attack(*Victim.FULL, prints=False)
    _audit(hostile).kept_away_from(place)
    attempt.audited().harmless(0)


def test_a_fuse_root_is_no_kernels() -> None:
    """The other side: what a container's root, or a volume with libraries, may be of."""
    data = {"FUSE": 0x65735546, "overlay": 0x794C7630, "tmpfs": 0x01021994, "NFS": 0x6969, "9p": 0x01021997,
            "ext4": 0xEF53, "xfs": 0x58465342, "btrfs": 0x9123683E, "squashfs": 0x73717368, "ramfs": 0x858458F6,
            "ceph": 0x00C36400, "ZFS": 0x2FC12FC1, "Lustre": 0x0BD00BD0, "CIFS": 0xFF534D42}  # fmt: skip
    assert not syscalls.KERNEL_FILE_SYSTEMS & set(data.values())
