# SPDX-License-Identifier: Apache-2.0
"""MIG devices without nodes, divided GPUs without devices, and one broken GPU among others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.doctor.examining import examine
from tests.fakehost import nvml_mock
from tests.fakehost.hosts import FakeHost
from tests.pains import pain
from tests.pains.following import follow


def devices_of(fake: FakeHost) -> set[str]:
    """The names of the devices in the spec that a refresh writes."""
    follow("sudo cdi-gen refresh --force || test $? = 4", fake)
    spec = json.loads((fake.root / "run/cdi/nvidia.json").read_text())
    return {device["name"] for device in spec["devices"]}


@pain(
    7,
    "No CUDA-capable device is detected (in a container with a MIG device)",
    command="cdi-gen doctor mig-devices",
    codes=("CDG-H201",),
    simulated=True,
)
def test_capability_node_is_missing(own_host: Callable[[str], FakeHost]) -> None:
    fake = own_host("550-mig-mixed")
    nodes = sorted(fake.root.glob("dev/nvidia-caps/nvidia-cap*"), key=lambda path: len(path.name))
    node = nodes[-1]
    node.unlink()

    path = f"/{node.relative_to(fake.root)}"
    finding = examine(fake, "mig-devices").finding("CDG-H201")
    assert path in finding.message
    assert "a GPU that does not work" in finding.message

    follow(finding.fix, fake)
    assert node.is_char_device()
    assert "CDG-H201" not in examine(fake, "mig-devices").codes


@pain(
    8,
    "MIG is enabled, but the GPU has no MIG device (no spec, unit failed)",
    command="cdi-gen doctor mig-devices",
    codes=("CDG-H106",),
    simulated=True,
)
def test_divided_gpu_without_instances(own_host: Callable[[str], FakeHost]) -> None:
    fake = own_host("550-mig-empty")
    # With cdi-gen the other GPUs are in the spec all the same.
    assert {"0", "2"} <= (devices := devices_of(fake))
    assert "1" not in devices

    finding = examine(fake, "mig-devices").finding("CDG-H106")
    assert finding.subject.startswith("GPU 1 at ")
    command, _, alternative = finding.fix.partition("  # ")
    assert command == "sudo nvidia-smi mig -i 1 -cgi 19 -C"
    whole = alternative.partition("for the whole GPU: ")[2]

    gpus = tuple(replace(gpu, mig_enabled=False) for gpu in fake.kernel.gpus)
    calls = fake.root / "calls"
    follow(whole, fake, nvidia_smi=f'echo "$@" >> {calls}')
    assert calls.read_text() == "-i 1 -mig 0\n"
    set_kernel(fake, gpus)
    assert examine(fake, "mig-devices").status == "not-applicable"
    assert "1" in devices_of(fake)


def set_kernel(fake: FakeHost, gpus: tuple[object, ...]) -> None:
    """Let NVML of a fake host report other GPUs."""
    fake.nvml.unlink()
    fake.nvml.touch()
    nvml_mock.install(fake.nvml, replace(fake.kernel, gpus=gpus), fake.driver_version)  # type: ignore[arg-type]


@pain(
    9,
    "invalid device, empty device edits (one broken GPU, and no GPU works)",
    command="cdi-gen doctor gpu-usable",
    codes=("CDG-H102",),
    simulated=True,
)
def test_one_broken_gpu_of_eight(own_host: Callable[[str], FakeHost]) -> None:
    fake = own_host("550-8gpu")
    address = fake.kernel.gpus[3].pci_address
    config = Path(fake.root / f"sys/bus/pci/devices/{address}/config")
    alive = config.read_bytes()
    config.write_bytes(b"\xff" * 64)
    # With cdi-gen the other seven GPUs are in the spec.
    assert {"0", "1", "2", "4", "5", "6", "7"} <= (devices := devices_of(fake))
    assert "3" not in devices

    finding = examine(fake, "gpu-usable").finding("CDG-H102")
    assert finding.subject == f"GPU 3 at {address}"
    assert "fallen off the bus" in finding.message

    follow(finding.fix, fake, poweroff="exit 0")
    config.write_bytes(alive)
    assert examine(fake, "gpu-usable").status == "ok"
    assert "3" in devices_of(fake)
