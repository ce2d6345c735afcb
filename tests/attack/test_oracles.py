# SPDX-License-Identifier: Apache-2.0
"""The oracles themselves: they see harm, and no harm in what others do to the machine meanwhile."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack.oracles import HarmError, changed_mounts, same_mounts
from tests.lab import cache

TABLES = """\
mkdir "$1/own" "$1/new"
mount -t tmpfs none "$1/own"
cat /proc/self/mountinfo > "$1/before"
echo ready
read -r _
eval "$2"
cat /proc/self/mountinfo > "$1/after"
"""


class TestMounts:
    """Tables of a mount namespace that has copies of the machine's mounts."""

    @pytest.fixture
    def others(self, tmp_path: Path) -> Iterator[Path]:
        """A mount of another user, who will unmount it."""
        place = tmp_path / "another user's"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
        yield place
        if place.exists():
            subprocess.run(["umount", place], check=False)

    def tables(self, folder: Path, others: Path, script: str, *, end: bool) -> tuple[str, str]:
        process = subprocess.Popen(
            ["unshare", "-m", "sh", "-ec", TABLES, "sh", folder, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == "ready\n"
            if end:
                subprocess.run(["umount", others], check=True)
                others.rmdir()
            process.stdin.write("\n")
            process.stdin.flush()
        assert process.returncode == 0
        before, after = ((folder / name).read_text() for name in ("before", "after"))
        return before, after

    def test_a_container_of_another_user_ends(self, tmp_path: Path, others: Path) -> None:
        before, after = self.tables(tmp_path, others, ":", end=True)
        assert before != after  # or Linux would not do what the rule is for
        same_mounts(before, after)

    @pytest.mark.parametrize("end", [False, True])
    @pytest.mark.parametrize(
        "script",
        [
            'mount -t tmpfs none "$1/new"',
            'mount --bind "$1" /mnt',
            'mount --make-shared "$1/own"',
            'mount -o remount,bind,ro "$1/own"',
            'umount "$1/own"',
        ],
    )
    def test_harm_is_seen(self, tmp_path: Path, others: Path, script: str, end: bool) -> None:
        with pytest.raises(HarmError):
            same_mounts(*self.tables(tmp_path, others, script, end=end))

    def test_a_source_that_was_removed(self) -> None:
        line = "36 35 98:0 {} /mnt rw shared:1 - ext4 /dev/root rw\n"
        assert changed_mounts(line.format("/a"), line.format("/a//deleted")) == []
        assert len(changed_mounts(line.format("/a"), line.format("/b"))) == 2

    def test_the_mounts_of_a_root_that_is_built_are_no_harm(self) -> None:
        line = "63 43 0:46 / {}/dev/pts rw - devpts none rw\n"
        partial, built = (cache.home() / name for name in ("trixie.partial-1", "trixie-1"))
        assert changed_mounts(line.format(partial), line.format(built)) == []
        assert len(changed_mounts(line.format("/partial"), line.format("/built"))) == 2
