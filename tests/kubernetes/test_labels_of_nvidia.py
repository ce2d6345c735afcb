# SPDX-License-Identifier: Apache-2.0
"""The labels beside those of NVIDIA's gpu-feature-discovery, on fake hosts.

NVIDIA's program loads the host's NVML and reads /sys, in a mount namespace of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakehost.hosts import FakeHost
from tests.fakehost.nvml_mock import DESCRIPTION, SONAME
from tests.host import looking, platform_hosts
from tests.host.platform_hosts import PlatformHost
from tests.lab.cache import LabUnavailableError
from tests.lab.kubernetes import nvidia_device_plugin

GetHost = Callable[[str], FakeHost]

pytestmark = pytest.mark.kubernetes

SHARED = """\
version: v1
sharing:
  STRATEGY:
    renameByDefault: RENAME
    resources:
    - {name: nvidia.com/gpu, replicas: 4}
    - {name: nvidia.com/mig-1g.5gb, replicas: 3}
"""
FLAGS = ("--oneshot", "--no-timestamp", "--use-node-feature-api=false", "--output-file=")

HOSTS = (
    "550-1gpu", "550-8gpu", "550-debian", "550-hgx", "550-lib64", "550-mig56", "550-mig-mixed",
    "550-nogpu", "550-operator", "550-permuted", "550-server", "550-usr-local", "470-tesla",
    "535-bookworm",
)  # fmt: skip

OF_THE_MOCK = ("nvidia.com/mig-1g.20gb.", "nvidia.com/mig-1c.3g.20gb.")
"""NVIDIA's program works out a profile from facts that the mock of NVML has of the smallest profile
only; it takes 1c.3g.20gb for 1g.20gb. The real NVML reports the name that cdi-gen uses."""


DIFFERENT = {
    ("550-mig-mixed", "single"): (
        {
            "gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-INVALID",
            "gpu.count": "0",
            "gpu.replicas": "0",
            "gpu.sharing-strategy": "",
            "gpu.memory": "0",
        },
        {
            "gpu.product": "NVIDIA-A100-SXM4-40GB",
            "gpu.count": "1",
            "gpu.replicas": "1",
            "gpu.sharing-strategy": "none",
            "gpu.memory": "40960",
        },
    ),
}
"""Labels of a host and a MIG strategy that differ: NVIDIA's values, ours. NVIDIA's device plugin
ends on this layout and ours advertises the GPU that is not divided; the labels say so."""


@pytest.fixture(scope="session")
def feature_discovery() -> Path:
    if os.geteuid() != 0:
        pytest.skip("a mount namespace needs root")
    try:
        return nvidia_device_plugin.program("gpu-feature-discovery")
    except LabUnavailableError as error:
        pytest.skip(f"no gpu-feature-discovery: {error}")


def whole_sysfs(fake: FakeHost, into: Path) -> Path:
    """Copy the sysfs of a fake host, with the files that NVIDIA's program needs in addition."""
    shutil.copytree(fake.root / "sys", into, symlinks=True)
    for config in into.glob("devices/pci*/*/config"):
        beginning = config.read_bytes()
        config.write_bytes(beginning + bytes(256 - len(beginning)))
        line = f"{0:#018x} {0:#018x} {0:#018x}\n"
        config.with_name("resource").write_text(line * 13)
    machine = into / "class/dmi/id/product_name"
    machine.parent.mkdir(parents=True)
    machine.write_text("ACME  Big-Box (2U)\n")
    return into


def in_namespace(sysfs: Path, place: str, *command: str, env: dict[str, str]) -> list[str]:
    """The lines that a command prints, sorted, where the sysfs is seen at a place."""
    script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(sysfs), place, *command],
        env={"PATH": os.environ["PATH"], **env},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return sorted(line for line in done.stdout.splitlines() if not line.startswith(OF_THE_MOCK))


def compare(
    program: Path, fake: FakeHost, folder: Path, *flags: str, strategy: str = "none"
) -> list[str]:
    """Return NVIDIA's labels, which are the same for both programs, except those of `DIFFERENT`."""
    flags = (*flags, f"--mig-strategy={strategy}")
    sysfs = whole_sysfs(fake, folder / "sys")
    (folder / SONAME).symlink_to(fake.nvml)
    # The mock answers from a file beside the library that the link leads to.
    libraries = {"LD_LIBRARY_PATH": str(folder)}
    expected = in_namespace(sysfs, "/sys", str(program), *FLAGS, *flags, env=libraries)
    own = (sys.executable, "-m", "cdi_gen", "kubernetes", "labels", *FLAGS, *flags)
    roots = ("--host-root", str(fake.root), "--driver-root", looking.driver_root_of(fake))
    sources = {"PYTHONPATH": looking.SOURCES}
    labels = in_namespace(sysfs, str(fake.root / "sys"), *own, *roots, env=sources)
    values = DIFFERENT.get((fake.name, strategy), ({}, {}))
    differences = [{f"nvidia.com/{name}={value}" for name, value in of.items()} for of in values]
    assert [set(expected) - set(labels), set(labels) - set(expected)] == differences
    return expected


@pytest.mark.parametrize("strategy", ["none", "single", "mixed"])
@pytest.mark.parametrize("name", HOSTS)
def test_labels_of_a_host(
    host: GetHost, feature_discovery: Path, tmp_path: Path, name: str, strategy: str
) -> None:
    labels = compare(feature_discovery, host(name), tmp_path, strategy=strategy)
    assert name == "550-nogpu" or len(labels) > 20


@pytest.mark.parametrize("rename", ["true", "false"])
@pytest.mark.parametrize(
    ("name", "strategy"),
    [("550-8gpu", "none"), ("550-mig56", "none"), ("550-mig56", "single"), ("550-mig56", "mixed")],
)
def test_labels_of_shared_gpus(
    host: GetHost, feature_discovery: Path, tmp_path: Path, name: str, strategy: str, rename: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(SHARED.replace("STRATEGY", "timeSlicing").replace("RENAME", rename))
    flag = f"--config-file={config}"
    labels = compare(feature_discovery, host(name), tmp_path, flag, strategy=strategy)
    assert any("-SHARED" in label for label in labels) is (
        rename == "false" and name + strategy != "550-mig56none"
    )


def test_labels_of_gpus_shared_by_mps(
    host: GetHost, feature_discovery: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(SHARED.replace("STRATEGY", "mps").replace("RENAME", "false"))
    labels = compare(feature_discovery, host("550-8gpu"), tmp_path, f"--config-file={config}")
    assert "nvidia.com/mps.capable=true" in labels


def test_labels_of_a_station_with_a_gpu_for_its_display(
    own_host: GetHost, feature_discovery: Path, tmp_path: Path
) -> None:
    fake = own_host("550-server")
    display = fake.kernel.gpus[1]
    description = fake.nvml.parent / DESCRIPTION
    lines = description.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.startswith(f"gpu {display.uuid} "):
            lines[number] = line.replace(display.model.name, "DGX Display")
    description.write_text("".join(lines))
    information = fake.root / f"proc/driver/nvidia/gpus/{display.pci_address}/information"
    text = information.read_text()
    information.write_text(text.replace(display.model.name, "DGX Display"))
    labels = compare(feature_discovery, fake, tmp_path)
    assert "nvidia.com/gpu.count=3" in labels


NOT_OF_LABELS = ("nvidia.com/gpu.compute.major=-1", "nvidia.com/gpu.compute.minor=-1")
"""Values of NVIDIA's program that Kubernetes refuses: a value begins with a letter or a digit."""

PLATFORMS: dict[str, tuple[Callable[[Path], PlatformHost], tuple[str, ...], str]] = {
    "jetson": (
        lambda root: platform_hosts.jetson(root, platform_hosts.JETSON_NANO),
        ("auto", "tegra"),
        "nvidia.com/gpu.product=NVIDIA-Tegra-X1",
    ),
    "wsl": (
        lambda root: platform_hosts.wsl(root, 2),
        ("auto", "nvml"),
        "nvidia.com/gpu.product=NVIDIA-GeForce-RTX-4090",
    ),
    "passthrough": (
        platform_hosts.passthrough,
        ("vfio",),
        "nvidia.com/gpu.product=GH100-H100-SXM5-80GB",
    ),
}


@pytest.mark.parametrize("shared", [False, True], ids=["exclusive", "shared"])
@pytest.mark.parametrize("name", PLATFORMS)
def test_labels_of_other_platforms(
    feature_discovery: Path, tmp_path: Path, name: str, shared: bool
) -> None:
    make, strategies, product = PLATFORMS[name]
    host = make(tmp_path / "host")
    flags = ["--mig-strategy=single"]
    if shared:
        config = tmp_path / "config.yaml"
        config.write_text(SHARED.replace("STRATEGY", "timeSlicing").replace("RENAME", "false"))
        flags.append(f"--config-file={config}")
        product += "-SHARED"
    for strategy in strategies:
        words = (*FLAGS, *flags, f"--device-discovery-strategy={strategy}")
        libraries = {"LD_LIBRARY_PATH": str(host.libraries)}
        theirs = in_namespace(host.sysfs, "/sys", str(feature_discovery), *words, env=libraries)
        own = (sys.executable, "-m", "cdi_gen", "kubernetes", "labels", *words)
        root = ("--host-root", str(host.root))
        sources = {"PYTHONPATH": looking.SOURCES}
        ours = in_namespace(host.sysfs, str(host.sysfs), *own, *root, env=sources)
        assert ours == [label for label in theirs if label not in NOT_OF_LABELS]
        assert product in ours
