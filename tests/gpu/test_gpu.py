# SPDX-License-Identifier: Apache-2.0
"""A real GPU in a real container.

Needs root, an NVIDIA GPU, Podman, a C compiler and a glibc image. From the environment:
``CDI_GEN_TEST_IMAGE`` (an image that is there already), ``CDI_GEN_TEST_PODMAN`` (how to call
Podman, options before its command included) and ``CDI_GEN_TEST_RUN`` (options of ``podman run``).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
IMAGE = os.environ.get("CDI_GEN_TEST_IMAGE", "docker.io/library/debian")
PODMAN = shlex.split(os.environ.get("CDI_GEN_TEST_PODMAN", "podman"))
RUN = shlex.split(os.environ.get("CDI_GEN_TEST_RUN", "--network none"))
SPEC = Path("/etc/cdi/cdi-gen-test.json")
KIND = "cdi-gen-test.example/gpu"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not Path("/proc/driver/nvidia/version").exists(), reason="no NVIDIA GPU on this machine"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it writes to /etc/cdi"),
    pytest.mark.skipif(shutil.which(PODMAN[0]) is None, reason="no Podman on this machine"),
]


def cdi_gen(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cdi_gen", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def container(*command: str, options: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [*PODMAN, "run", "--rm", *RUN, *options, IMAGE, *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ready = os.environ.get("CDI_GEN_TEST_SQUARE")  # built elsewhere, against an older glibc
    if ready:
        return Path(ready)
    program = tmp_path_factory.mktemp("cuda") / "square"
    subprocess.run(["cc", "-O1", "-o", program, HERE / "square.c", "-ldl"], check=True)
    return program


@pytest.fixture(params=["auto", "none"])
def spec(request: pytest.FixtureRequest):
    SPEC.parent.mkdir(exist_ok=True)
    cdi_gen(
        "generate", "--hooks", request.param, "--vendor", "cdi-gen-test.example", "-o", str(SPEC)
    )
    yield request.param
    SPEC.unlink()


def test_nvidia_smi_lists_what_it_lists_on_the_host(spec: str) -> None:
    host = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    assert "GPU 0: " in host.stdout
    assert container("nvidia-smi", "-L", options=("--device", f"{KIND}=all")) == host.stdout


def test_a_cuda_kernel_runs(spec: str, square: Path) -> None:
    said = container("/square", options=("--device", f"{KIND}=0", "-v", f"{square}:/square:ro"))
    assert said.count("kernel ran, 31 * 31 = 961") == 1


def test_a_container_sees_the_gpus_it_asked_for_and_no_other(spec: str) -> None:
    names = cdi_gen("list", "-o", "name").split()
    uuids = [name.partition("=")[2] for name in names if "=GPU-" in name]
    for uuid in uuids:
        said = container("nvidia-smi", "-L", options=("--device", f"{KIND}={uuid}"))
        assert [each for each in uuids if each in said] == [uuid]


def test_without_a_device_there_is_no_gpu(spec: str) -> None:
    said = container("nvidia-smi", "-L", options=("--device", f"{KIND}=none"))
    assert said.strip() == "No devices found."


def test_the_inventory_gives_the_same_spec(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.json"
    cdi_gen("inventory", "-o", str(inventory))
    assert cdi_gen("generate", "--inventory", str(inventory)) == cdi_gen("generate")
