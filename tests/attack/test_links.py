# SPDX-License-Identifier: Apache-2.0
"""Links of the image that lead out of it, at every place where the hook reads or writes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.attack.images import ROOT_FOLDERS, clear, plant, replace, ways_to
from tests.attack.oracles import fingerprint
from tests.attack.victim import Victim

MAGIC = ("magic", "process 1", "descriptor", "dev fd", "cwd")
WRITTEN = ("etc/ld.so.cache", "etc/ld.so.conf.d/00-cdi-gen.conf", "opt/odd/libcuda.so.1")


def with_the_sentinel_open(victim: Victim) -> None:
    """Descriptor 3 of the hook, as an engine's leak (CVE-2024-21626)."""
    script = f'exec 3<{victim.canary}/dir; exec env -u PWD -u OLDPWD "$@"'
    victim.within += ["sh", "-c", script, "sh"]


def lead_out(victim: Victim, place: str, way: str) -> None:
    replace(victim.root / place, ways_to(victim.canary / "dir")[way])
    if way in {"descriptor", "dev fd"}:
        with_the_sentinel_open(victim)


@pytest.mark.parametrize("way", ["absolute", "relative"])
def test_the_drop_in_folder_is_a_link_out(both: Victim, way: str) -> None:
    """A12 confd-abs-link, A13 confd-rel-link: CVE-2025-23267."""
    lead_out(both, "etc/ld.so.conf.d", way)
    both.attack(*Victim.FULL).harmless(0, 1, lines=2)


@pytest.mark.parametrize("way", ["absolute", "relative"])
@pytest.mark.parametrize("place", ROOT_FOLDERS)
def test_a_folder_is_a_link_out(both: Victim, place: str, way: str) -> None:
    """A14 every-parent-link: CVE-2024-0133, CVE-2024-0134; with the whole host read-only, O-RO."""
    lead_out(both, place, way)
    both.all_but_the_root_read_only()
    both.attack(*Victim.FULL).harmless(0, 1, lines=2)
    made = both.root / str(both.canary / "dir")[1:]
    assert not made.exists() or made.is_dir()


@pytest.mark.parametrize("way", ["absolute", "relative"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_folder_above_a_link_is_a_link_out(both: Victim, depth: int, way: str) -> None:
    """A14 every-parent-link, of folders that the hook makes: CVE-2024-0134, CVE-2024-45310."""
    parts = ["usr", "lib", "deep", "er", "still"]
    lead_out(both, "/".join(parts[: depth + 1]), way)
    words = ("create-symlinks", "--link", f"../x.so::/{'/'.join(parts)}/y.so")
    both.attack(*words).harmless(0, 1, also=".*/?y.so|usr/lib/deep.*|tmp(/.*)?")


@pytest.mark.parametrize("way", MAGIC)
@pytest.mark.parametrize("place", ["etc", "etc/ld.so.conf.d", "opt", "opt/odd", "lib"])
def test_a_folder_is_a_link_through_proc(both: Victim, place: str, way: str) -> None:
    """A15 magic-links, in an image with a real procfs and a descriptor of the sentinel open."""
    both.with_mounts(f"mount -t proc proc {both.root}/proc")
    lead_out(both, place, way)
    both.attack(*Victim.FULL).harmless(0, 1, lines=4)


@pytest.mark.parametrize("way", ["absolute", "relative", "magic"])
@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_of_ours_is_a_link_out(both: Victim, name: str, way: str) -> None:
    """A20 cache-targets: the link is replaced, what it leads to is not."""
    replace(both.root / name, ways_to(both.canary / "file")[way])
    both.attack(*Victim.FULL).harmless(0)
    place = both.root / name
    assert place.is_symlink() == name.endswith("libcuda.so.1")
    assert not place.is_symlink() or os.readlink(place) == "libcuda.so.550.1"


@pytest.mark.parametrize("name", [*WRITTEN, "etc/ld.so.cache~"])
def test_a_file_of_ours_is_a_name_of_the_hosts_file(both: Victim, name: str) -> None:
    """A20 cache-targets, as a hard link: it is replaced, never written through."""
    clear(both.root / name)
    os.link(both.canary / "file", both.root / name)
    both.prints = fingerprint(both.canary)
    both.attack(*Victim.FULL).harmless(0, but_ctime=True)
    assert (both.canary / "file").read_text() == "untouched\n"


@pytest.mark.parametrize(
    "kind",
    ["pipe", "link to a pipe", "device", "block device", "socket", "folder", "folder, not empty"],
)
@pytest.mark.parametrize("name", [*WRITTEN, "etc/ld.so.cache~"])
def test_a_file_of_ours_is_something_else(hostile: Victim, name: str, kind: str) -> None:
    """A20 cache-targets: replaced without being opened; a folder is one line and the old state.

    An exception is a link, which replaces an empty directory.
    """
    plant(hostile.root / name, kind.partition(",")[0])
    if kind == "folder, not empty":
        (hostile.root / name / "within").touch()
    attempt = hostile.attack(*Victim.FULL)
    stays = kind == "folder, not empty" or not name.endswith("libcuda.so.1")
    if kind.startswith("folder") and stays and not name.endswith("~"):
        attempt.harmless(1)
        assert attempt.said.endswith("Is a directory [CDG-X003]\n")
    else:
        attempt.harmless(0)
        assert attempt.said == ""
    assert not list(hostile.root.rglob(".cdi-gen-*"))


def test_the_names_of_temporary_files_are_taken(hostile: Victim) -> None:
    """A21 tmp-name-squat: the name is none that can be known, and is made with O_EXCL."""
    for number in range(10_000):
        os.symlink(hostile.canary / "file", hostile.root / f"etc/.cdi-gen-{number:016x}")
    hostile.attack(*Victim.FULL, prints=False).harmless(0)
    assert len(list((hostile.root / "etc").glob(".cdi-gen-*"))) == 10_000


def test_the_very_name_of_the_temporary_file_is_taken(hostile: Victim) -> None:
    """A21 tmp-name-squat, with the right name: refused, and never written through."""
    squatted = hostile.root / "etc/.cdi-gen-0000000000000000"
    squatted.symlink_to(hostile.canary / "file")
    hostile.altered(files__temporary_name="lambda: '.cdi-gen-0000000000000000'")
    attempt = hostile.attack("update-ldcache", "--folder", "/opt/odd")
    attempt.harmless(1)
    assert (hostile.canary / "file").read_text() == "untouched\n"


LINK_ARGUMENTS = {
    "x::/a/" + "../" * 30 + "{canary}/l": 2,
    "x::{canary}/../../../../../../..{canary}/l": 2,
    "x::/a/..": 2,
    "x::/..": 2,
    "x::/": 2,
    "x::/.": 2,
    "x::.": 2,
    "x::": 2,
    "x::a": 2,
    "x::/a/": 2,
    "::/a": 2,
    "x::y::z": 2,
    "x::/y::/z": 2,
    "x": 2,
    "": 2,
    "x::/a\nb": 2,
    "x\ty::/a": 2,
    "x::/" + "a" * 5000: 2,
    "x::{canary}/l": 0,
    "{canary}/file::/a": 0,
    "../../../../../..{canary}/file::/a": 0,
    "x:://a//./b": 0,
    "x:::/a": 0,
}


@pytest.mark.parametrize("argument", LINK_ARGUMENTS, ids=lambda text: ascii(text[:32]))
@pytest.mark.parametrize("name", ["create-symlinks", "create-container"])
def test_a_link_argument(hostile: Victim, name: str, argument: str) -> None:
    """A16 link-arg-dots: in the root, or refused; what the link says is the spec's affair."""
    expected = LINK_ARGUMENTS[argument]
    words = (name, "--link", argument.replace("{canary}", str(hostile.canary)))
    attempt = hostile.attack(*words).harmless(
        0, 2, also=r"a|a/b|:|(tmp|var|root|home|private)(/.*)?"
    )
    assert attempt.status == expected or argument == "x:::/a"
    if expected == 2:
        assert attempt.before == attempt.after


def test_the_root_itself_is_a_link(hostile: Victim, tmp_path: Path) -> None:
    """Incus' CVE-2026-48749: a link to the host's root is refused by what it leads to."""
    real = tmp_path / "real"
    hostile.root.rename(real)
    hostile.root.symlink_to(real)
    hostile.attack(*Victim.FULL, prints=False).harmless(0)
    hostile.root.unlink()
    hostile.root.symlink_to("/")
    words = ("create-symlinks", "--link", f"x::{hostile.canary}/dir/x")
    attempt = hostile.attack(*words, prints=False).harmless(1)
    assert "is the host's root: refused" in attempt.said


@pytest.mark.parametrize("spelling", ["/", "//", "/.", "/../", "link", "bind mount"])
@pytest.mark.parametrize("by", ["state", "config"])
def test_the_root_is_the_hosts(hostile: Victim, spelling: str, by: str) -> None:
    """A11 rootfs-is-host: by identity, whatever it is called; nothing is written before."""
    (hostile.bundle / "link").symlink_to("/")
    (hostile.bundle / "bound").mkdir()
    path = {"link": f"{hostile.bundle}/link", "bind mount": f"{hostile.bundle}/bound"}.get(
        spelling, spelling
    )
    if spelling == "bind mount":
        hostile.with_mounts(f"mount --bind / {hostile.bundle}/bound")
    stdin = hostile.state()
    if by == "state":
        stdin = stdin[:-1] + b', "root": "' + path.encode() + b'"}'
    else:
        (hostile.bundle / "config.json").write_text(f'{{"root": {{"path": "{path}"}}}}')
    words = ("create-symlinks", "--link", f"x::{hostile.canary}/dir/x")
    attempt = hostile.attack(*words, stdin=stdin).harmless(1)
    expected = "cdi-gen-hook: create-symlinks: the container's root is the host's root: refused [CDG-K005]\n"
    assert attempt.said == expected


def with_a_dispute(victim: Victim) -> None:
    """An image that lists its own libcuda before the driver's, which is mounted."""
    driver = victim.folder / "libcuda.so.550.1"
    shutil.copy(victim.root / "opt/odd/libcuda.so.550.1", driver)
    shutil.copytree(victim.root / "opt/odd", victim.root / "opt/stubs")
    (victim.root / "opt/stubs/libcuda.so.550.1").rename(victim.root / "opt/stubs/libcuda.so.1")
    victim.write("/etc/ld.so.conf", "/opt/stubs\n/opt/odd\n")
    victim.with_mounts(f"mount --bind {driver} {victim.root}/opt/odd/libcuda.so.550.1")


ON_A_GEFORCE = tuple("geforce" if word == "tesla" else word for word in Victim.FULL)
"""So that the image's compat folder is not used, whose libcuda would come first."""

OF_LINKS = ("etc/cdi-gen", "etc/cdi-gen/glibc", "etc/cdi-gen/glibc/303")


@pytest.mark.parametrize("way", ["absolute", "relative", "magic"])
@pytest.mark.parametrize("place", OF_LINKS)
def test_the_folder_of_links_is_a_link_out(both: Victim, place: str, way: str) -> None:
    """A65 preferred-links: nothing is made, and nothing that lies there is taken away."""
    with_a_dispute(both)
    (both.canary / "dir/303").mkdir()
    (both.canary / "dir/303/libold.so.1").symlink_to("x")
    (both.canary / "dir/libold.so.1").symlink_to("x")
    both.prints = fingerprint(both.canary)
    replace(both.root / place, ways_to(both.canary / "dir")[way])
    both.attack(*ON_A_GEFORCE, prints=False).harmless(0, 1)


@pytest.mark.parametrize("place", OF_LINKS)
@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder"])
def test_the_folder_of_links_is_something_else(hostile: Victim, place: str, kind: str) -> None:
    """A65 preferred-links: a line, or links in the folder that is there."""
    with_a_dispute(hostile)
    plant(hostile.root / place, kind)
    attempt = hostile.attack(*ON_A_GEFORCE).harmless(0, 1)
    assert attempt.status == int(kind != "folder")


def test_the_folder_of_links_is_full(hostile: Victim) -> None:
    """A65 preferred-links: of thousands that another host's hook might have made none stays."""
    with_a_dispute(hostile)
    for number in range(5_000):
        os.makedirs(hostile.root / "etc/cdi-gen/glibc/303/glibc-hwcaps/x86-64-v3", exist_ok=True)
        (hostile.root / f"etc/cdi-gen/glibc/303/lib{number}.so.1").symlink_to("/nowhere")
    hostile.attack(*ON_A_GEFORCE, prints=False, measured=True).harmless(0)
    links = list((hostile.root / "etc/cdi-gen/glibc/303").glob("lib*"))
    assert [link.name for link in links] == ["libcuda.so.1"]


@pytest.mark.parametrize("place", OF_LINKS)
def test_the_folder_of_links_is_a_volume(both: Victim, place: str) -> None:
    """A65 preferred-links: the step is left out, and the volume is as it was."""
    with_a_dispute(both)
    volume = both.canary / "dir"
    (volume / "303/libold.so.1").parent.mkdir()
    (volume / "303/libold.so.1").symlink_to("x")
    both.prints = fingerprint(both.canary)
    (both.root / place).mkdir(parents=True)
    script = f"mount --bind {volume} {both.root}/{place}"
    driver = both.folder / "libcuda.so.550.1"
    both.with_mounts(f"mount --bind {driver} {both.root}/opt/odd/libcuda.so.550.1; {script}")
    attempt = both.attack(*ON_A_GEFORCE).harmless(0)
    assert "left out" in attempt.said
