# SPDX-License-Identifier: Apache-2.0
"""The kernel's table of mounts, with names that a container chose."""

from __future__ import annotations

import pytest

from cdi_gen.containers import mounts

TABLE = """\
540 522 0:63 / / rw,relatime - overlay overlay rw,lowerdir=/x
541 540 0:66 / /proc rw,nosuid - proc proc rw
542 540 0:67 / /dev rw,nosuid - tmpfs tmpfs rw
543 542 0:5 /nvidia0 /dev/nvidia0 rw,nosuid - devtmpfs udev rw
544 540 8:1 /usr/lib/libcuda.so.535.1//deleted /usr/lib/libcuda.so.535.1 ro - ext4 /dev/sda1 rw
545 540 0:70 / /a\\040b\\012c rw shared:1 master:2 - fuse.evil evil rw
546 540 8:1 /over /dev rw - ext4 /dev/sda1 rw
"""


def test_mounts_are_parsed() -> None:
    parsed = mounts.parse(TABLE)
    assert [mount.point for mount in parsed] == [
        *("/", "/proc", "/dev", "/dev/nvidia0", "/usr/lib/libcuda.so.535.1", "/a b\nc", "/dev"),
    ]
    assert parsed[3].root == "/nvidia0"
    assert [mount.is_deleted for mount in parsed] == [False] * 4 + [True, False, False]
    assert [mount.is_remote for mount in parsed] == [False] * 5 + [True, False]


def test_the_last_mount_of_a_place_is_seen() -> None:
    mount = mounts.at(mounts.parse(TABLE), "/dev")
    assert mount is not None
    assert mount.kind == "ext4"


@pytest.mark.parametrize("text", ["", "\n\n", "1 2", "a b c d e f - ", " - ext4 x y"])
def test_odd_lines_are_left_out(text: str) -> None:
    assert mounts.parse(text) == []


@pytest.mark.parametrize("kind", ["fuse", "fuse.fuse-overlayfs", "nfs4", "autofs", "cifs", "9p"])
def test_file_systems_that_may_not_answer(kind: str) -> None:
    (mount,) = mounts.parse(f"1 0 0:1 / / rw - {kind} x rw")
    assert mount.is_remote


@pytest.mark.parametrize("kind", ["ext4", "tmpfs", "devtmpfs", "overlay", "xfs", "btrfs", "proc"])
def test_file_systems_that_the_kernel_serves(kind: str) -> None:
    (mount,) = mounts.parse(f"1 0 0:1 / / rw - {kind} x rw")
    assert not mount.is_remote
