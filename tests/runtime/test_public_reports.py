# SPDX-License-Identifier: Apache-2.0
"""Configurations of containers and of the shim, out of public reports, each as far as it matters."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.runtime.machine import Bundle, Ended, Machine

pytestmark = pytest.mark.host


def created(machine: Machine, bundle: Bundle) -> Ended:
    """Let the shim create the container; its low-level runtime only records the call."""
    return machine.run(str(machine.shim), "create", "--bundle", str(bundle.path), "c")


def calls_of_runc(machine: Machine) -> int:
    log = machine.folder / "runc.calls"
    return len(log.read_text().splitlines()) if log.exists() else 0


def capabilities_are_a_list(bundle: Bundle) -> None:
    """NVIDIA/nvidia-container-runtime#105, docker/for-linux#61: Docker 1.13.1 of CentOS 7.

    The list is the form of the specification's release candidates.
    """
    bundle.config["ociVersion"] = "1.0.0-rc2-dev"
    bundle.config["process"]["capabilities"] = ["CAP_CHOWN", "CAP_SYS_ADMIN"]


def limits_are_infinite(bundle: Bundle) -> None:
    """opencontainers/runc#1283, NVIDIA/nvidia-container-toolkit#2037: RLIM_INFINITY is 2**64 - 1."""
    limit = {"type": "RLIMIT_MEMLOCK", "hard": 2**64 - 1, "soft": 2**64 - 1}
    bundle.config["process"]["rlimits"] = [limit]


def memory_is_not_limited(bundle: Bundle) -> None:
    """opencontainers/runtime-spec#867: -1 is no limit, and the kernel's own limit has 19 digits."""
    memory = {"limit": 9223372036854771712, "swap": -1, "reservation": -1}
    bundle.config["linux"]["resources"] = {"memory": memory, "cpu": {"shares": 0}}


TAKEN = (capabilities_are_a_list, limits_are_infinite, memory_is_not_limited)


@pytest.mark.parametrize("report", TAKEN, ids=lambda report: report.__name__)
def test_container_gets_the_gpu_and_keeps_the_rest(
    plain: Machine, bundle: Bundle, report: Callable[[Bundle], None]
) -> None:
    report(bundle)
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    before = bundle.edited()
    process = created(plain, bundle)
    assert (process.returncode, process.stderr, calls_of_runc(plain)) == (0, "", 1)
    after = bundle.edited()
    assert {"GPU=0", "FROM_SPEC=1"} <= set(after["process"].pop("env"))
    del before["process"]["env"]
    assert json.dumps(after, sort_keys=True) == json.dumps(before, sort_keys=True)


def test_comma_after_the_last_variable_is_refused_and_the_file_kept(
    plain: Machine, bundle: Bundle
) -> None:
    """containers/crun#508, shellhub-io/shellhub#5787: written by hand, or by sed from a template."""
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0", "TERM=xterm")
    text = bundle.file.read_text().replace('"TERM=xterm"', '"TERM=xterm",')
    bundle.file.write_text(text)
    process = created(plain, bundle)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert f"'{bundle.file}' is not JSON: " in line
    assert line.endswith("[CDG-K004]")
    assert (bundle.file.read_text(), calls_of_runc(plain)) == (text, 0)


BROKEN_SETTINGS = {
    # NVIDIA/nvidia-container-toolkit#483: the path of the file, pasted into it.
    "a path on a line of its own": (
        '[nvidia-container-runtime]\nmode = "auto"\n/etc/nvidia-container-runtime/config.toml\n',
        "line 3: a key is missing, or has a character that needs quotes",
    ),
    # NVIDIA/gpu-operator#673: the actions of a template of RKE2.
    "a template": (
        "[nvidia-container-runtime]\nruntimes = {{ .Runtimes }}\n",
        "line 2: a key is missing, or has a character that needs quotes",
    ),
    # herdrdev/herdr#1162: an editor of Windows.
    "a byte order mark": ("\ufeffdisable-require = false\n", "line 1: a byte order mark"),
    # movacx/bc250-control-center#1: a key twice, the second one indented.
    "a key twice": (
        "[nvidia-container-cli]\nno-cgroups = false\n no-cgroups = false\n",
        "line 3: 'nvidia-container-cli.no-cgroups' is defined twice",
    ),
}


@pytest.mark.parametrize(("text", "reason"), BROKEN_SETTINGS.values(), ids=BROKEN_SETTINGS)
def test_broken_config_toml_stops_a_container_with_the_line(
    plain: Machine, bundle: Bundle, text: str, reason: str
) -> None:
    plain.settings.write_text(text)
    before = bundle.asks("NVIDIA_VISIBLE_DEVICES=0").file.read_text()
    process = created(plain, bundle)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert f"'{plain.settings}', {reason}" in line
    assert line.endswith("[CDG-C102]")
    assert (bundle.file.read_text(), calls_of_runc(plain)) == (before, 0)
