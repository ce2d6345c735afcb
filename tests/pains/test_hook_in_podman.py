# SPDX-License-Identifier: Apache-2.0
"""A hook that is missing, and a directory that is not read, with a real Podman."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from cdi_base.findings import Finding
from cdi_gen.doctor.engine_statuses import finding_of
from tests.doctor.test_spec_checks import NVIDIA
from tests.fakehost.hosts import FakeHost
from tests.host.looking import REPOSITORY
from tests.lab.engines import Inside, Lab
from tests.pains import pain

SOURCES, PACKAGES = "/opt/cdi-gen", "/opt/site-packages"
ENVIRONMENT = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": ":".join((*(f"{SOURCES}{name}" for name in ("", "/specs", "/hooks")), PACKAGES)),
}
CDI_GEN = ("python3", "-W", "ignore", "-m", "cdi_gen")


@pytest.fixture(scope="module")
def inside(
    lab_of: Callable[[str], Lab], host: Callable[[str], FakeHost], image_archives: dict[str, Path]
) -> Iterator[Inside]:
    """A host with GPUs, Podman and a spec of nvidia-ctk."""
    fake = host("550-8gpu")
    binds = {
        SOURCES: REPOSITORY,
        PACKAGES: Path(click.__file__).parents[1],
        "/image.tar": image_archives["debian"],
    }
    with lab_of("trixie").enter(under=[fake.root], dev_from=fake.root, binds=binds) as entered:
        entered.run(["podman", "load", "--quiet", "--input", "/image.tar"])
        entered.write("/etc/cdi/nvidia.json", (NVIDIA / "8gpu.json").read_text())
        yield entered


def start(inside: Inside) -> str:
    """Start a container with a GPU; return what Podman prints if it does not start."""
    words = ("run", "--rm", "--device", "nvidia.com/gpu=0", "localhost/debian", "/probe", "stat")
    result = inside.run(["podman", *words, "/dev/nvidia0"], check=False)
    assert (result.returncode == 0) is ("/dev/nvidia0\tc" in result.stdout)
    return "" if result.returncode == 0 else result.stderr


def findings(inside: Inside, check: str) -> tuple[Finding, ...]:
    words = [*CDI_GEN, "doctor", check, "--json"]
    text = inside.run(words, env=ENVIRONMENT, check=False).stdout
    return tuple(map(finding_of, json.loads(text)["checks"][0]["findings"]))


@pain(
    42,
    "OCI runtime attempted to invoke a command that was not found: nvidia-cdi-hook",
    command="cdi-gen doctor hook-programs",
    codes=("CDG-V103",),
)
def test_podman_does_not_find_the_hook_of_the_spec(inside: Inside) -> None:
    assert "/usr/bin/nvidia-cdi-hook" in start(inside)

    (finding,) = findings(inside, "hook-programs")
    assert (finding.code, finding.subject) == ("CDG-V103", "/usr/bin/nvidia-cdi-hook")

    sudo, program, *words = shlex.split(finding.fix)
    assert (sudo, program) == ("sudo", "cdi-gen")
    inside.run([*CDI_GEN, *words], env=ENVIRONMENT)
    assert start(inside) == ""
    assert findings(inside, "hook-programs") == ()
