# SPDX-License-Identifier: Apache-2.0
"""A failure is undone, reported in one line, and ends in time. And older kernels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.attack import oracles
from tests.prestart.machine import DENIED, LIBRARY, NO_DEVICE, Engine, Machine

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def _image(request: pytest.FixtureRequest) -> None:
    """What the image holds at first, for `_as_it_was`."""
    machine = request.getfixturevalue("machine")
    machine.image = oracles.fingerprint(machine.root)


def _as_it_was(machine: Machine) -> None:
    image = oracles.fingerprint(machine.root)
    assert oracles.differences(machine.image, image) == set()


def test_missing_library_stops_the_container(machine: Machine, engine: Engine) -> None:
    (machine.driver / "libcuda.so.550.1").unlink()
    machine.refused(engine, "libcuda.so.550.1' of the host: No such file or directory")
    _as_it_was(machine)


def test_earlier_mounts_are_undone_when_the_last_fails(machine: Machine, engine: Engine) -> None:
    """What was mounted and made before it is gone."""
    where = "/" + "/".join("abcdefghijklmnopqrstuvw") + "/x"
    machine.edits["mounts"].append({**machine.edits["mounts"][0], "containerPath": where})
    machine.refused(engine, "File name too long")
    _as_it_was(machine)


def test_failing_hook_of_the_spec_stops_the_container(machine: Machine, engine: Engine) -> None:
    _only_hook(machine, "echo out; echo no licence >&2; exit 3")
    machine.refused(engine, "failed with status 3: 'no licence'")
    _as_it_was(machine)


def test_missing_hook_of_the_spec_stops_the_container(machine: Machine, engine: Engine) -> None:
    machine.edits["hooks"][0]["path"] = "/nowhere/cdi-gen-hook"
    machine.refused(engine, "failed with status 127: 'No such file or directory'")
    _as_it_was(machine)


@pytest.mark.parametrize("script", ["sleep 50", "sleep 50 & exit 0", "yes >&2"])
def test_hook_of_the_spec_that_hangs_stops_the_container(
    machine: Machine, engine: Engine, script: str
) -> None:
    _only_hook(machine, script)
    machine.edits["hooks"][0]["timeout"] = 1
    machine.refused(engine, "did not end within 1 s")
    _as_it_was(machine)


def test_terminated_hook_undoes_its_work(machine: Machine, engine: Engine) -> None:
    """Whatever it is doing then: here its child waits for the spec's hook."""
    begun = machine.bundle / "begun"
    _only_hook(machine, f"touch {begun}; sleep 50")
    program = machine.program
    _wrap(machine, "", program="")
    Path(machine.program).write_text(
        f'#!/bin/sh\nexec 3<&0\n{program} "$@" <&3 3<&- & hook=$!\n'
        f"until [ -e {begun} ]; do sleep 0.02; done; kill -TERM $hook; wait $hook\n"
    )
    machine.refused(engine, "signal 15")
    _as_it_was(machine)


def test_hook_of_the_spec_gets_state_and_environment(machine: Machine, engine: Engine) -> None:
    """Its environment and no other; the state, with the root; its namespaces are the container's."""
    seen = machine.bundle / "seen"
    script = f"cat >{seen}; env >>{seen}; readlink /proc/self/ns/* >>{seen}; pwd >>{seen}"
    _only_hook(machine, script, env=["PATH=/usr/bin:/bin", "A=b"])
    inside = machine.started(engine, "for n in /proc/self/ns/*; do readlink $n; done").split()
    output, *rest = seen.read_text().partition("}")[0::2]
    state = json.loads(f"{output}}}")
    assert state["root"] == str(machine.root)
    assert state["bundle"] == str(machine.bundle)
    lines = rest[0].split("\n")
    assert {"PATH=/usr/bin:/bin", "A=b"} <= set(lines)
    assert not any(line.startswith(("HOME", "LD_", "NVIDIA")) for line in lines)
    there = {line for line in lines if line.startswith(("mnt:", "pid:", "net:", "ipc:", "uts:"))}
    assert there <= set(inside)
    assert len(there) == 5


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ({"hooks": [{"hookName": "poststop", "path": "/bin/true"}]}, "a poststop hook"),
        ({"intelRdt": {"closID": "x"}}, "intelRdt"),
        ({"netDevices": [{"hostInterfaceName": "a", "name": "b"}]}, "netDevices"),
    ],
)
def test_edit_that_comes_too_late_stops_the_container(
    machine: Machine, runc: Engine, edit: dict[str, object], reason: str
) -> None:
    machine.edits |= edit
    machine.refused(runc, reason)


@pytest.mark.parametrize("option", ["rshared", "noatime", "size=1k"])
def test_unsupported_mount_option_stops_the_container(
    machine: Machine, runc: Engine, option: str
) -> None:
    machine.edits["mounts"][0]["options"] += [option]
    machine.refused(
        runc, f"a prestart hook cannot mount '{LIBRARY}' as the spec says: option '{option}'"
    )


OLDER = {
    "5.11": ("mount_setattr",),
    "5.5": ("mount_setattr", "openat2"),
    "4.18": ("mount_setattr", "openat2", "open_tree", "move_mount"),
}


@pytest.mark.parametrize("kind", ["plain", "user namespace"])
@pytest.mark.parametrize("kernel", OLDER)
def test_older_kernel_mounts_in_two_steps(
    machine: Machine, engine: Engine, kernel: str, kind: str
) -> None:
    """The calls that it lacks answer ENOSYS; the container is the same."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("needs strace")
    if kind == "user namespace":
        machine.with_a_user_namespace()
    faults = " ".join(f"-e inject={name}:error=ENOSYS" for name in OLDER[kernel])
    # The spec's own hook is one of another test's.
    machine.edits["hooks"] = []
    _wrap(machine, f"{strace} -f -qq -o /dev/null {faults}")
    output = machine.started(
        engine,
        f"head -c4 {LIBRARY}; cat </dev/nvidia0; grep {LIBRARY} /proc/self/mountinfo | cut -d' ' -f6,7",
    )
    assert "ELF" in output
    assert NO_DEVICE in output
    assert output.endswith("ro,nosuid,nodev,relatime -\n")


def test_no_second_interpreter_is_started_for_our_own_hook(program: Machine, runc: Engine) -> None:
    """It takes longer than all the rest, and nothing but the time would show it."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("needs strace")
    trace = program.folder / "trace"
    _wrap(program, f"{strace} -f -qq -e trace=execve -e signal=none -o {trace}")
    assert program.started(runc, "/bin/loads libcuda.so.1") == "libcuda.so.1=42\n"
    assert trace.read_text().count("execve(") == 1


FAULTS = (
    *((name, when) for name in ("mknodat", "mkdirat", "openat2") for when in (1, 3)),
    *(("move_mount", when) for when in (1, 2)),
    *((name, 1) for name in ("open_tree", "mount_setattr", "setns", "chown", "chmod", "pipe2")),
)


@pytest.mark.parametrize(("call", "when"), FAULTS)
def test_failing_system_call_is_undone(
    machine: Machine, runc: Engine, call: str, when: int
) -> None:
    """The error is one line; the container does not start, and its image is unchanged."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("needs strace")
    machine.edits["hooks"] = []
    _wrap(machine, f"{strace} -f -qq -o /dev/null -e inject={call}:error=EIO:when={when}")
    machine.refused(runc, "Input/output error")
    _as_it_was(machine)


def test_filter_is_replaced_in_two_steps_on_an_older_kernel(machine: Machine) -> None:
    """Before Linux 5.6 the old program goes when the new one is there."""
    machine.edits["hooks"] = []
    program = machine.folder / "older.py"
    program.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(machine.program).parent)!r})\n"
        "import errno\nfrom cdi_runtime import prestart\nfrom cdi_runtime.prestart import device_filter\n"
        "attach = device_filter._attach\n"
        "def refused(group, program, flags, old=0):\n"
        "    if flags & 4:\n        raise OSError(errno.EINVAL, 'unknown flag')\n"
        "    attach(group, program, flags, old)\n"
        "device_filter._attach = refused\nprestart.main()\n"
    )
    _wrap(machine, f"/usr/bin/python3 -IS {program}", program="")
    assert machine.opens(Engine("runc", "v2"), "nvidia0", "nvidiactl") == {
        "nvidia0": NO_DEVICE,
        "nvidiactl": NO_DEVICE,
    }


def test_filter_that_cannot_be_replaced_stops_the_container(machine: Machine) -> None:
    """Then the container does not start; nothing is allowed on the way there."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("needs strace")
    _wrap(machine, f"{strace} -f -qq -o /dev/null -e inject=bpf:error=EPERM:when=4+")
    machine.refused(Engine("runc", "v2"), f"cannot replace the container's device filter: {DENIED}")


def _only_hook(machine: Machine, script: str, **more: object) -> None:
    machine.edits["hooks"] = [
        {
            "hookName": "createContainer",
            "path": "/bin/sh",
            "args": ["sh", "-c", script],
            "env": ["PATH=/usr/bin:/bin"],
            **more,
        }
    ]


def _wrap(machine: Machine, words: str, program: str | None = None) -> None:
    script = machine.folder / "wrapped"
    run = machine.program if program is None else program
    script.write_text(f'#!/bin/sh\nexec {words} {run} "$@"\n')
    script.chmod(0o755)
    machine.program = str(script)
