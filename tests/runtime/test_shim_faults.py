# SPDX-License-Identifier: Apache-2.0
"""The shim is killed, or a system call of it fails: config.json is old or new, never half.

strace counts the calls of each name from the first of the process; so a run without faults is looked
at first, and of its calls those count that come once the bundle is opened.
"""

from __future__ import annotations

import json
import shutil

import pytest

from tests.attack.faults import Call, calls
from tests.runtime.machine import Bundle, Ended, Machine

WRITING = ("openat", "write", "fchmod", "rename", "renameat", "renameat2", "unlinkat", "execve")
"""The errors that could leave files behind."""


class Scene:
    """A bundle that asks for a device of a spec file, and the shim below strace."""

    def __init__(self, machine: Machine, bundle: Bundle) -> None:
        if not shutil.which("strace"):
            pytest.skip("needs strace")
        self.machine = machine
        self.bundle = bundle
        bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
        self.old = bundle.file.read_bytes()
        trace = machine.folder / "trace"
        assert self.run("-o", str(trace)).returncode == 0
        self.new = bundle.file.read_bytes()
        assert json.loads(self.new) != json.loads(self.old)
        text = trace.read_text(errors="replace")
        # The last file that is opened before the bundle is config.toml.
        before = text[: text.index(f'"{bundle.path}"')].count("openat(")
        # What comes after the last execve is the runtime's.
        text = text[: text.index("\n", text.rindex(" execve(")) + 1]
        self.calls = [call for call in calls(text, "execve") if _is_after(call, before)]

    def run(self, *strace: str) -> Ended:
        shim = (str(self.machine.shim), "create", "--bundle", str(self.bundle.path), "x")
        return self.machine.run("strace", "-f", "-qq", *strace, *shim)

    def inject(self, call: Call, fault: str) -> Ended:
        """A fresh bundle, and a fault in one call."""
        for each in self.bundle.path.iterdir():
            if each.name != "rootfs":
                each.unlink()
        self.bundle.file.write_bytes(self.old)
        (self.machine.folder / "runc.calls").unlink(missing_ok=True)
        what = f"inject={call.name}:{fault}:when={call.number}"
        return self.run("-o", "/dev/null", "-e", f"trace={call.name}", "-e", what)

    def started(self) -> bool:
        """Whether the low-level runtime was."""
        return (self.machine.folder / "runc.calls").exists()

    def left_behind(self) -> list[str]:
        names = {each.name for each in self.bundle.path.iterdir()}
        return sorted(names - {"rootfs", "config.json"})


def _is_after(call: Call, opened: int) -> bool:
    return call.name in WRITING and (call.name != "openat" or call.number > opened)


@pytest.fixture
def scene(plain: Machine, bundle: Bundle) -> Scene:
    return Scene(plain, bundle)


def test_config_json_is_whole_after_a_kill_at_each_call(scene: Scene) -> None:
    """No program reads a file that is left behind."""
    assert {"openat", "write", "execve"} <= {call.name for call in scene.calls}
    old = new = 0
    for call in scene.calls:
        ended = scene.inject(call, "signal=KILL")
        content = scene.bundle.file.read_bytes()
        assert content in {scene.old, scene.new}, (call, ended)
        assert scene.bundle.file.stat().st_mode & 0o777 == 0o644
        assert all(name.startswith(".cdi-gen-") for name in scene.left_behind()), call
        old += content == scene.old
        new += content == scene.new
    assert old > 2
    assert new >= 1


def test_config_json_is_whole_after_a_signal_at_each_call(scene: Scene) -> None:
    """Ctrl-C on `runc run`: nothing is left behind."""
    for call in scene.calls:
        if call.name == "execve":
            continue
        ended = scene.inject(call, "signal=INT")
        where = (call, ended)
        assert scene.left_behind() == [], where
        assert scene.bundle.file.read_bytes() in {scene.old, scene.new}, where
        assert "Traceback" not in ended.stderr, where
        if not scene.started():
            assert "interrupted" in ended.stderr, where


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_error_in_each_call_is_reported(scene: Scene, error: str) -> None:
    """Either the runtime starts with the new file, or there is a one-line error and the old file."""
    for call in scene.calls:
        ended = scene.inject(call, f"error={error}")
        where = (call, ended)
        assert "Traceback" not in ended.stderr, where
        assert scene.left_behind() == [] or call.name == "unlinkat", where
        content = scene.bundle.file.read_bytes()
        if scene.started():
            assert (content, ended.returncode) == (scene.new, 0), where
        else:
            # 126: the shell could not start Python.
            assert ended.returncode in ({1, 126} if call.name == "execve" else {1}), where
            assert content == scene.old or call.name == "execve", where
            # Unless it is stderr that is faulty.
            assert ended.stderr.count("\n") == 1 or call.name == "write", where


@pytest.mark.nightly
@pytest.mark.parametrize("error", ["EINTR", "EMFILE", "ENOMEM", "EACCES", "EROFS"])
def test_other_errors_in_each_call_are_reported(scene: Scene, error: str) -> None:
    test_error_in_each_call_is_reported(scene, error)


def test_nothing_is_written_without_a_request(plain: Machine, bundle: Bundle) -> None:
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    trace = plain.folder / "trace"
    shim = (str(plain.shim), "create", "--bundle", str(bundle.path), "x")
    bundle.asks()
    assert plain.run("strace", "-qq", "-o", str(trace), *shim).returncode == 0
    text = trace.read_text(errors="replace")
    text = text[text.index(f'"{bundle.path}"') : text.rindex("execve(")]
    assert not [line for line in text.splitlines() if line.startswith(("write(", "rename"))]
    assert "O_CREAT" not in text
