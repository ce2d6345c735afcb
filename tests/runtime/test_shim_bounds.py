# SPDX-License-Identifier: Apache-2.0
"""Limits of time and memory of the shim and the hook, for any config.json of an image."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.attack import oracles
from tests.hook.conftest import ENVIRONMENT, HOOK
from tests.hook.conftest import PYTHON as INTERPRETER
from tests.runtime.machine import Bundle, Machine, note_calls

MEASURED = """
import os, sys
child = os.fork()
if not child:
    os.execv(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(child, 0)
os.write(2, f"{usage.ru_maxrss} KiB\\n".encode())
os._exit(os.waitstatus_to_exitcode(status) % 256)
"""
"""The peak of a process counts what it was before it became a program: so a small one begins."""

SECONDS = 5
"""One or two on a machine with nothing else to do."""

TOO_LARGE = "is larger than 8388608 bytes"
TOO_MANY = "has more than 500000 texts, commas and brackets"


def _requirements(size: int, expression: str) -> list[str]:
    repeated = expression * (100_000 // len(expression))
    return [f"NVIDIA_REQUIRE_{number}={repeated}" for number in range(size // 100_000)]


BOMBS: dict[str, tuple[list[str], str | None]] = {
    "requirements of 15 MB": (_requirements(15_000_000, "driver>=999 "), TOO_LARGE),
    "requirements that hold at last": (_requirements(200_000, "driver>=999 driver>=1 "), None),
    "requirements that cannot be read": (_requirements(200_000, "a,b "), "is not satisfied"),
    "requirements of 7 MB": (
        _requirements(7_000_000, "driver>=1 "),
        "all expressions together are longer",
    ),
    "many requirements": (
        [f"NVIDIA_REQUIRE_{number}=driver>=1" for number in range(100_000)],
        "more than 4096 variables of NVIDIA",
    ),
    "short variables": (["A="] * 1_300_000, TOO_MANY),
    "as many as are taken": ([f"A{number}=" for number in range(249_000)], None),
    "one wide character": (["A=" + "x" * 8_000_000 + "\U0001f600"], None),
    "what is escaped": (["A=" + "\x01" * 1_390_000], None),
}


@pytest.fixture(params=BOMBS)
def bomb(request: pytest.FixtureRequest, bundle: Bundle) -> tuple[Bundle, str | None]:
    entries, refusal = BOMBS[request.param]
    bundle.config["process"]["env"] = [*entries, "NVIDIA_VISIBLE_DEVICES=0"]
    bundle.file.write_text(json.dumps(bundle.config, ensure_ascii=False))
    return bundle, refusal


def in_bounds(status: int, stderr: str, begun: float, refusal: str | None) -> None:
    oracles.in_time(time.monotonic() - begun, SECONDS)
    *lines, peak = stderr.splitlines()
    oracles.in_memory(int(peak.removesuffix(" KiB")))
    assert (status, len(lines)) == ((1, 1) if refusal else (0, 0)), lines
    assert not refusal or refusal in lines[0]


@pytest.mark.host
def test_shim_stays_within_its_bounds(
    machine: Machine, bomb: tuple[Bundle, str | None], tmp_path: Path
) -> None:
    """A70 env-bombs."""
    bundle, refusal = bomb
    note_calls(tmp_path)
    machine.configure(runtime=f'runtimes = ["{tmp_path}/runc"]')
    shim = (str(INTERPRETER), "-IS", str(machine.shim))
    prepare = Bundle(tmp_path / "before").asks("NVIDIA_VISIBLE_DEVICES=0")
    assert machine.run(*shim, "create", "--bundle", str(prepare.path), "x").returncode == 0
    begun = time.monotonic()
    words = (*shim, "create", "--bundle", str(bundle.path), "x")
    ended = machine.run(str(INTERPRETER), "-IS", "-c", MEASURED, *words)
    assert ended.returncode in (0, 1), ended
    in_bounds(ended.returncode, ended.stderr, begun, refusal)


def test_hook_stays_within_its_bounds(bomb: tuple[Bundle, str | None], tmp_path: Path) -> None:
    """A70 env-bombs."""
    bundle, refusal = bomb
    tmp_path.chmod(0o755)
    hook = (str(HOOK), "check-requirements", "--host-driver-version=580.1", "--gpu=0:9.0:tesla")
    begun = time.monotonic()
    ended = subprocess.run(
        [INTERPRETER, "-IS", "-c", MEASURED, *hook],
        input=json.dumps({"bundle": str(bundle.path)}),
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
        timeout=30,
    )
    in_bounds(ended.returncode, ended.stderr, begun, refusal)


STATE = """
import os, signal, resource
status = open("/proc/self/status").read().splitlines()
print([line for line in status if line.startswith(("SigBlk", "SigIgn", "SigCgt"))])
print(signal.alarm(0), resource.getrlimit(resource.RLIMIT_AS), sorted(os.listdir("/proc/self/fd")))
"""

SHIM = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from cdi_base import process
process.SECONDS = 1
from cdi_runtime.shim import create, main
def slow(*_, **__):
    {slow}
create.resolution.edits = slow
sys.argv[1:] = ["create", "--bundle", sys.argv[2], "x"]
main.main()
"""


def test_shim_that_hangs_is_ended(plain: Machine, bundle: Bundle) -> None:
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    content = bundle.file.read_bytes()
    script = SHIM.format(slow="while True: pass")
    words = (str(INTERPRETER), "-IS", "-c", script, str(plain.installed), str(bundle.path))
    begun = time.monotonic()
    ended = plain.run(*words)
    assert time.monotonic() - begun < 8
    assert (ended.returncode, ended.stderr) == (
        1,
        "cdi-gen-runtime: not done after 1 s [CDG-X005]\n",
    )
    assert bundle.file.read_bytes() == content
    assert not (plain.folder / "runc.calls").exists()


def test_shim_that_needs_too_much_memory_is_ended(plain: Machine, bundle: Bundle) -> None:
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    script = SHIM.format(slow="bytearray(1 << 30)")
    words = (str(INTERPRETER), "-IS", "-c", script, str(plain.installed), str(bundle.path))
    ended = plain.run(*words)
    assert (ended.returncode, ended.stderr) == (1, "cdi-gen-runtime: out of memory [CDG-X004]\n")


def test_preparation_has_its_own_bounds(plain: Machine, bundle: Bundle) -> None:
    """NVML may have to wake GPUs, and maps more memory than the shim may have."""
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    slow = "from cdi_base.process import Unbounded\n    with Unbounded():\n"
    slow += "        memory = bytearray(1 << 30); time.sleep(3)\n    return None"
    words = (str(INTERPRETER), "-IS", "-c", SHIM.format(slow=slow), str(plain.installed))
    ended = plain.run(*words, str(bundle.path))
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    assert (plain.folder / "runc.calls").exists()


@pytest.mark.parametrize("within", [":", "ulimit -v 4000000", "trap '' ALRM HUP"])
def test_runtime_does_not_inherit_the_bounds(
    plain: Machine, bundle: Bundle, within: str, tmp_path: Path
) -> None:
    """The runtime has no deadline, limit, signal mask or descriptor of the shim."""
    runtime = tmp_path / "tells"
    runtime.write_text(f"#!{sys.executable} -IS\n{STATE}")
    runtime.chmod(0o755)
    plain.configure(runtime=f'runtimes = ["{runtime}"]')
    words = ("create", "--bundle", str(bundle.asks("NVIDIA_VISIBLE_DEVICES=0").path), "x")
    by_shim = plain.run(str(plain.shim), *words, within=within)
    alone = plain.run(str(runtime), *words, within=within)
    assert bundle.environment()["GPU"] == "0"
    assert by_shim.stdout == alone.stdout != ""
    assert by_shim.returncode == 0
