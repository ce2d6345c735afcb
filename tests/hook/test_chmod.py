# SPDX-License-Identifier: Apache-2.0
"""The step chmod changes directories that engines created in /dev, and no volume of the user."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.hook.conftest import Container, fingerprint
from tests.hook.runtimes import Runtime, hook_of, start


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def dri(container: Container) -> Container:
    """/dev/dri with the mode that an old crun gave it."""
    (container.root / "dev/dri").mkdir(mode=0o700)
    return container


@pytest.mark.parametrize("text", ["755", "0755", "00755"])
def test_directory_gets_the_mode(dri: Container, text: str) -> None:
    ended = dri.hook("chmod", "--mode", text, "--path", "/dev/dri", "--path=/dev/nvidia-caps")
    assert (ended.status, ended.said) == (0, "")
    assert mode(dri.root / "dev/dri") == 0o755
    dri.assert_host_untouched()


def test_second_run_changes_nothing(dri: Container) -> None:
    words = ("chmod", "--mode=755", "--path=/dev/dri")
    dri.hook(*words)
    once = fingerprint(dri.root)
    assert dri.hook(*words).said == ""
    assert fingerprint(dri.root) == once


@pytest.mark.parametrize(
    "words",
    [
        ("--path=/dev/dri",),
        *(("--path=/dev/dri", f"--mode={text}") for text in ["", "u+x", "8", "1777", "4755", "-1", "0o755", "7 5"]),
        ("--mode=755", "--path=dev/dri"),
        ("--mode=755", "--path=/dev/../etc"),
        ("--mode=755", "--path="),
    ],
)  # fmt: skip
def test_invalid_options_are_rejected(dri: Container, words: tuple[str, ...]) -> None:
    before = fingerprint(dri.root)
    ended = dri.hook("chmod", *words)
    assert (ended.status, ended.said.count("\n")) == (2, 1)
    assert fingerprint(dri.root) == before


@pytest.mark.parametrize(
    "kind", ["file", "pipe", "device", "link to a file", "link out", "nowhere", "itself"]
)
def test_path_that_is_not_a_directory_is_not_changed(both: Container, kind: str) -> None:
    """Nothing is opened, and no link leads out of the container."""
    target = both.root / "dev/dri"
    both.canary.joinpath("dir").chmod(0o700)
    both.before = fingerprint(both.canary)
    match kind:
        case "file":
            target.touch(mode=0o600)
        case "pipe":
            os.mkfifo(target, 0o600)
        case "device":
            os.mknod(target, stat.S_IFCHR | 0o600, os.makedev(10, 130))
        case "link to a file":
            both.write("etc/shadow").chmod(0o600)
            target.symlink_to("/etc/shadow")
        case "link out":
            target.symlink_to("../../../canary/dir")
        case "nowhere":
            target.symlink_to("/nowhere")
        case "itself":
            target.symlink_to("dri")
    before = fingerprint(both.root)
    ended = both.hook("chmod", "--mode=755", "--path=/dev/dri")
    assert ended.status == 0
    assert ended.said in {
        "",
        "cdi-gen-hook: chmod: '/dev/dri': not changed: the path is not a directory [CDG-K105]\n",
    }
    assert fingerprint(both.root) == before
    both.assert_host_untouched()


class TestMounts:
    """Directories that the engine created are changed, mounts of the user are not."""

    @pytest.mark.parametrize(
        ("before", "changed"),
        [
            ("mount -t tmpfs none $R/dev; mkdir -m 700 $R/dev/dri", True),
            ("mount -t tmpfs none $R/dev; mkdir -m 700 $R/dev/dri; mount --bind $R/dev/dri $R/dev/dri", False),
            ("mount -t tmpfs none $R/dev; mkdir -m 700 $R/dev/dri; mount -t tmpfs -o mode=700 none $R/dev/dri", False),
            ("mount --bind $R/dev $R/dev", False),
            # The whole /dev of the host.
            ("mount -t tmpfs none /dev; mkdir -m 700 /dev/dri; mount --rbind /dev $R/dev", False),
            # A tmpfs that the user mounted as a volume.
            ("mkdir $R/../v; mount -t tmpfs none $R/../v; mkdir -m 700 $R/../v/dri; mount --bind $R/../v $R/dev", False),
            # A tmpfs of the user, to which a link of the image leads.
            ("mount -t tmpfs none $R/opt; mkdir -m 700 $R/opt/dri; rmdir $R/dev/dri $R/dev; ln -s opt $R/dev", False),
            ("mount -t tmpfs none $R/dev; mount -t tmpfs none $R/opt; mkdir -m 700 $R/opt/dri; ln -s /opt/dri $R/dev/dri", False),
        ],
        ids=["engine's", "bound", "tmpfs", "another mount", "host's", "volume", "link to a volume", "link out of dev"],
    )  # fmt: skip
    def test_only_directories_of_the_engine_are_changed(
        self, dri: Container, before: str, changed: bool
    ) -> None:
        dri.with_mounts(
            f"R={dri.root}\n{before}", 'stat -L -c %a "$R"/dev/dri "$R"/opt/dri 2>/dev/null || :'
        )
        ended = dri.hook("chmod", "--mode=755", "--path=/dev/dri")
        assert ended.status == 0
        assert set(ended.stdout.split()) <= {"755" if changed else "700"}
        if changed:
            assert ended.stdout == "755\n"
        else:
            assert ended.said.count("\n") <= 1

    def test_a_directory_of_another_user_is_not_changed(self, dri: Container) -> None:
        """A rootless container may have the host's /dev. NVIDIA's hook ignores the error too."""
        os.chown(dri.root / "dev/dri", 1234, 1234)
        dri.within = ["setpriv", "--bounding-set=-fowner"]
        ended = dri.hook("chmod", "--mode=755", "--path=/dev/dri")
        assert ended.status == 0
        assert (
            ended.said
            == "cdi-gen-hook: chmod: '/dev/dri': not changed: the directory belongs to another user [CDG-K105]\n"
        )

    def test_a_read_only_root(self, container: Container) -> None:
        (container.root / "opt/odd").chmod(0o700)
        container.with_mounts(
            f"mount --bind {container.root} {container.root}; mount -o remount,bind,ro {container.root}"
        )
        ended = container.hook("chmod", "--mode=755", "--path=/opt/odd")
        assert ended.status == 0
        assert (
            ended.said
            == "cdi-gen-hook: chmod: '/opt/odd': the container's root file system is read-only: left out [CDG-K006]\n"
        )


@pytest.mark.engine
@pytest.mark.parametrize("readonly", [False, True])
def test_in_a_container(runtime: Runtime, bundle: Container, readonly: bool) -> None:
    spec = bundle.spec
    spec["root"]["readonly"] = readonly
    node = {"path": "/dev/dri/card0", "type": "c", "major": 226, "minor": 0, "fileMode": 0o666}
    spec["linux"]["devices"] = [node]
    words = (
        "create-container",
        "--path",
        "/dev/dri",
        "--path",
        "/dev/nvidia-caps",
        "--mode",
        "750",
    )
    spec["hooks"] = {"createContainer": [hook_of(bundle, *words)]}
    spec["process"]["args"] = ["/bin/busybox", "stat", "-c", "%a", "/dev/dri"]
    ended = start(runtime, bundle)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "750\n", "")
