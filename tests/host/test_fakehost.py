# SPDX-License-Identifier: Apache-2.0
"""The fake hosts are what they claim to be, so that other tests may believe what they see there."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakehost import hosts, kernel, layouts, nvml_mock
from tests.host.looking import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable

    GetHost = Callable[[str], hosts.FakeHost]

pytest_plugins = ["tests.fakehost.fixtures"]
pytestmark = pytest.mark.host

MULTIARCH = "/usr/lib/x86_64-linux-gnu"
NIX_LIBRARIES = f"/nix/store/{layouts.NIX_HASH}-nvidia-x11-550.163.01/lib"

# Public name of a library in each layout, and the directory of the file that it leads to.
LIBRARIES = [
    ("550-debian", MULTIARCH, f"{MULTIARCH}/nvidia/current"),
    ("535-bookworm", MULTIARCH, f"{MULTIARCH}/nvidia/current"),
    ("535-tesla", MULTIARCH, f"{MULTIARCH}/nvidia/tesla-535"),
    ("470-tesla", MULTIARCH, f"{MULTIARCH}/nvidia/tesla-470"),
    ("550-8gpu", MULTIARCH, MULTIARCH),
    ("550-server", MULTIARCH, MULTIARCH),
    ("550-lib64", "/usr/lib64", "/usr/lib64"),
    ("550-ostree", "/usr/lib64", "/usr/lib64"),
    ("550-usr-local", "/usr/lib", "/usr/local/nvidia/lib64"),
    (
        "550-operator",
        f"/run/nvidia/driver{MULTIARCH}",
        f"/run/nvidia/driver{MULTIARCH}",
    ),
    ("550-nixos", "/run/opengl-driver/lib", NIX_LIBRARIES),
]


@pytest.mark.parametrize(("name", "public", "real"), LIBRARIES)
def test_public_names_lead_to_versioned_files(
    host: GetHost, name: str, public: str, real: str
) -> None:
    fake = host(name)
    version = fake.driver_version
    for library in ("libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1"):
        expected = f"{real}/{library.removesuffix('1')}{version}"
        assert fake.resolve(f"{public}/{library}") == expected


@pytest.mark.parametrize("name", sorted(hosts.HOSTS))
def test_no_driver_link_dangles(host: GetHost, name: str) -> None:
    fake = host(name)
    links = [path for path in fake.root.rglob("*nvidia*") if path.is_symlink()]
    links += [path for path in fake.root.rglob("libcuda*") if path.is_symlink()]
    assert links
    # The operator's root is a root of its own: links lead inside of it.
    inner = dataclasses.replace(fake, root=fake.driver_root)
    for link in links:
        of = inner if link.is_relative_to(fake.driver_root) else fake
        of.resolve(f"/{link.relative_to(of.root)}")


def test_debian_chooses_nvidia_smi_by_alternatives(host: GetHost) -> None:
    root = host("550-debian").root
    first = root / "usr/bin/nvidia-smi"
    assert str(first.readlink()) == "/etc/alternatives/nvidia--nvidia-smi"
    second = root / "etc/alternatives/nvidia--nvidia-smi"
    assert str(second.readlink()) == "/usr/lib/nvidia/current/nvidia-smi"
    assert (root / "usr/lib/nvidia/current/nvidia-smi").read_bytes()[:4] == b"\x7fELF"


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("550-debian", ["/lib/x86_64-linux-gnu/libcuda.so.1", "/lib/i386-linux-gnu/libcuda.so.1"]),
        ("550-8gpu", ["/lib/x86_64-linux-gnu/libcuda.so.1", "/lib/i386-linux-gnu/libcuda.so.1"]),
        ("550-lib64", ["/lib64/libcuda.so.1", "/lib/libcuda.so.1"]),
        ("550-usr-local", ["/usr/local/nvidia/lib64/libcuda.so.1", "/lib/libcuda.so.1"]),
        ("470-tesla", ["/lib/x86_64-linux-gnu/libcuda.so.1"]),
    ],
)
def test_the_loader_cache_lists_libcuda(host: GetHost, name: str, entries: list[str]) -> None:
    cache = subprocess.run(
        ["ldconfig", "-r", str(host(name).root), "-p"], check=True, capture_output=True, text=True
    ).stdout
    found = [line.split(" => ")[1] for line in cache.splitlines() if "libcuda.so.1 " in line]
    assert found == entries


def test_nixos_has_no_loader_cache(host: GetHost) -> None:
    root = host("550-nixos").root
    assert not (root / "etc/ld.so.cache").exists()
    assert not (root / "usr/lib").exists()


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("550-1gpu", "nvidia0", (195, 0, 0o666, 0)),
        ("550-1gpu", "nvidiactl", (195, 255, 0o666, 0)),
        ("550-1gpu", "nvidia-modeset", (195, 254, 0o666, 0)),
        ("550-1gpu", "nvidia-uvm-tools", (510, 1, 0o666, 0)),
        ("550-1gpu", "dri/card1", (226, 1, 0o660, 44)),
        ("550-1gpu", "dri/renderD128", (226, 128, 0o660, 992)),
        ("550-usr-local", "nvidia-uvm", (238, 0, 0o666, 0)),
        ("550-usr-local", "nvidia-caps/nvidia-cap1", (241, 1, 0o400, 0)),
        ("550-hgx", "nvidia-nvswitchctl", (235, 255, 0o666, 0)),
        ("550-hgx", "nvidia-caps-imex-channels/channel3", (236, 3, 0o666, 0)),
        ("550-mig56", "nvidia-caps/nvidia-cap66", (234, 66, 0o444, 0)),
        ("550-mig56", "nvidia-caps/nvidia-cap1066", (234, 1066, 0o444, 0)),
        ("550-operator", "nvidia1", (195, 1, 0o666, 0)),
        ("550-operator", "../run/nvidia/driver/dev/nvidia1", (195, 1, 0o666, 0)),
    ],
)
def test_device_nodes(
    host: GetHost, name: str, path: str, expected: tuple[int, int, int, int]
) -> None:
    """Major, minor, mode and group are as udev and nvidia-modprobe make them."""
    found = (host(name).root / "dev" / path).stat()
    assert stat.S_ISCHR(found.st_mode)
    mode = stat.S_IMODE(found.st_mode)
    assert (os.major(found.st_rdev), os.minor(found.st_rdev), mode, found.st_gid) == expected


def test_information_is_written_as_the_driver_writes_it(host: GetHost) -> None:
    root = host("550-usr-local").root
    text = (root / "proc/driver/nvidia/gpus/0000:00:06.0/information").read_text()
    assert text.splitlines() == [
        "Model: \t\t NVIDIA H200",
        "IRQ:   \t\t 41",
        "GPU UUID: \t GPU-ab100000-c0de-4000-8000-000000001000",
        "Video BIOS: \t 96.00.a5.00.1a",
        "Bus Type: \t PCIe",
        "DMA Size: \t 52 bits",
        "DMA Mask: \t 0xfffffffffffff",
        "Bus Location: \t 0000:00:06.0",
        "Device Minor: \t 0",
        "GPU Firmware: \t 550.163.01",
        "GPU Excluded:\t No",
    ]


def test_a_470_driver_says_nothing_of_firmware(host: GetHost) -> None:
    fake = host("470-tesla")
    (first, *_) = sorted(fake.root.glob("proc/driver/nvidia/gpus/*/information"))
    assert "GPU Firmware" not in first.read_text()
    version = (fake.root / "proc/driver/nvidia/version").read_text()
    assert version.startswith("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  ")


def test_mig_minors_are_a_real_machines() -> None:
    lines = kernel.mig_minors().splitlines()
    assert lines[:5] == [
        *("config 1", "monitor 2", "gpu0/gi0/access 3"),
        *("gpu0/gi0/ci0/access 4", "gpu0/gi0/ci1/access 5"),
    ]
    assert lines[11] == "gpu0/gi1/access 12"
    assert len(lines) == 4322
    # As a real driver says in sys-minors: the first minor after all of MIG's.
    assert kernel.FABRIC_IMEX_MGMT_MINOR == 4323


def test_sysfs_joins_a_gpu_to_its_drm_nodes(host: GetHost) -> None:
    root = host("550-permuted").root
    gpu = host("550-permuted").kernel.gpus[2]
    device = root / "sys/bus/pci/devices" / gpu.pci_address
    assert sorted(path.name for path in (device / "drm").iterdir()) == ["card4", "renderD131"]
    assert (device / "vendor").read_text() == "0x10de\n"
    by_path = root / f"dev/dri/by-path/pci-{gpu.pci_address}-render"
    assert by_path.resolve() == (root / "dev/dri/renderD131").resolve()


def test_sockets_are_sockets(host: GetHost) -> None:
    for name in hosts.SOCKETS:
        assert (host("550-hgx").root / "run" / name).is_socket()


ASK = """
import ctypes, json, sys
ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
import pynvml
from pynvml import *

def code_of(call, *arguments):
    try:
        return call(*arguments)
    except NVMLError as error:
        return -error.value

nvmlInit()
gpus = []
for index in range(nvmlDeviceGetCount()):
    gpu = code_of(nvmlDeviceGetHandleByIndex, index)
    if isinstance(gpu, int):
        gpus.append(gpu)
        continue
    uuid = code_of(nvmlDeviceGetUUID, gpu)
    if isinstance(uuid, int):
        gpus.append(uuid)
        continue
    migs = []
    for number in range(nvmlDeviceGetMaxMigDeviceCount(gpu)):
        mig = code_of(nvmlDeviceGetMigDeviceHandleByIndex, gpu, number)
        if not isinstance(mig, int):
            parent = nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)
            assert nvmlDeviceGetIndex(parent) == index
            assert nvmlDeviceGetAttributes(mig).gpuInstanceSliceCount
            migs.append([nvmlDeviceGetGpuInstanceId(mig), nvmlDeviceGetComputeInstanceId(mig),
                         nvmlDeviceGetUUID(mig), nvmlDeviceGetName(mig)])
    pci = nvmlDeviceGetPciInfo(gpu)
    gpus.append({
        "uuid": uuid, "minor": nvmlDeviceGetMinorNumber(gpu), "pci": pci.busId,
        "name": nvmlDeviceGetName(gpu), "memory": nvmlDeviceGetMemoryInfo(gpu).total,
        "brand": nvmlDeviceGetBrand(gpu), "mig mode": code_of(nvmlDeviceGetMigMode, gpu),
        "migs": migs, "capability": nvmlDeviceGetCudaComputeCapability(gpu),
    })
print(json.dumps({"driver": nvmlSystemGetDriverVersion(),
                  "cuda": nvmlSystemGetCudaDriverVersion(), "gpus": gpus}))
"""


def ask_nvml(fake: hosts.FakeHost) -> subprocess.CompletedProcess[str]:
    # In a process of its own: a loaded library stays loaded, and hosts have one each.
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK, str(fake.nvml)],
        check=False,
        capture_output=True,
        text=True,
    )


def nvml_of(fake: hosts.FakeHost) -> dict[str, Any]:
    answer = ask_nvml(fake)
    assert answer.returncode == 0, answer.stderr
    description: dict[str, Any] = json.loads(answer.stdout)
    return description


def test_nvml_tells_of_the_gpus(host: GetHost) -> None:
    fake = host("550-permuted")
    answer = nvml_of(fake)
    assert answer["driver"] == "550.163.01"
    assert answer["cuda"] == 12040
    assert [gpu["minor"] for gpu in answer["gpus"]] == [2, 0, 3, 1]
    assert [gpu["uuid"] for gpu in answer["gpus"]] == [gpu.uuid for gpu in fake.kernel.gpus]
    first = answer["gpus"][0]
    assert first["pci"] == "00000000:1B:00.0"
    assert first["name"] == "NVIDIA H100 80GB HBM3"
    assert first["memory"] == 81559 << 20
    assert first["capability"] == [9, 0]
    assert first["mig mode"] == [0, 0]


def test_nvml_enumerates_56_mig_devices(host: GetHost) -> None:
    fake = host("550-mig56")
    found = [(gpu["minor"], gi, ci) for gpu in nvml_of(fake)["gpus"] for gi, ci, *_ in gpu["migs"]]
    assert len(found) == 56
    for minor, gi, ci in found:
        for number in (
            kernel.instance_minor(minor, gi),
            kernel.instance_minor(minor, gi, ci),
        ):
            assert (fake.root / f"dev/nvidia-caps/nvidia-cap{number}").exists()


def test_nvml_tells_mig_off_shared_and_empty(host: GetHost) -> None:
    off, shared, empty = nvml_of(host("550-mig-mixed"))["gpus"]
    assert (off["mig mode"], off["migs"]) == ([0, 0], [])
    assert shared["mig mode"] == [1, 1]
    assert [mig[:2] for mig in shared["migs"]] == [[2, 0], [2, 1], [2, 2], [9, 0]]
    assert shared["migs"][0][3] == "NVIDIA A100-SXM4-40GB MIG 1c.3g.20gb"
    assert (empty["mig mode"], empty["migs"]) == ([1, 1], [])


def test_nvml_loses_gpus(host: GetHost) -> None:
    answer = nvml_of(host("550-broken"))["gpus"]
    lost = [gpu for gpu in answer if isinstance(gpu, int)]
    assert lost == [-nvml_mock.GPU_IS_LOST] * 2
    assert [gpu["minor"] for gpu in answer if isinstance(gpu, dict)] == [0, 2, 4]


def test_procfs_of_broken_gpus(host: GetHost) -> None:
    root = host("550-broken").root
    gpus = root / "proc/driver/nvidia/gpus"
    assert "GPU-????????-" in (gpus / "0000:1e:00.0/information").read_text()
    with pytest.raises(IsADirectoryError):
        (gpus / "0000:24:00.0/information").read_text()
    assert not (root / "dev/nvidia2").exists()


def test_nvml_skips_excluded_gpus(host: GetHost) -> None:
    fake = host("550-excluded")
    assert [gpu["minor"] for gpu in nvml_of(fake)["gpus"]] == [0, 2]
    information = fake.root / "proc/driver/nvidia/gpus/0000:1e:00.0/information"
    assert information.read_text().endswith("GPU Excluded:\t Yes\n")


def test_a_consumer_gpu_has_no_mig_mode(host: GetHost) -> None:
    (gpu, _) = nvml_of(host("550-lib64"))["gpus"]
    assert gpu["mig mode"] == -3  # NVML_ERROR_NOT_SUPPORTED
    assert gpu["brand"] == 5


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("550-split", "NVMLError_LibRmVersionMismatch"),
        ("550-unloaded", "NVMLError_DriverNotLoaded"),
    ],
)
def test_nvml_does_not_start(host: GetHost, name: str, error: str) -> None:
    assert error in ask_nvml(host(name)).stderr


def test_a_host_without_gpus(host: GetHost) -> None:
    fake = host("550-nogpu")
    assert nvml_of(fake)["gpus"] == []
    assert not list(fake.root.glob("dev/nvidia[0-9]*"))


def run_by_hand(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.host", *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )


@pytest.mark.parametrize(
    ("name", "device"),
    [("550-operator", "nvidia.com/gpu=1"), ("550-mig-mixed", "nvidia.com/gpu=1:3")],
)
def test_cdi_gen_runs_on_a_host_by_hand(host: GetHost, name: str, device: str) -> None:
    host(name)
    result = run_by_hand(name, "list", "-o", "name")
    assert device in result.stdout.splitlines(), result.stderr


def test_hosts_are_listed_by_hand() -> None:
    assert "550-server      driver 550-server, layout flat, 4 x NVIDIA H100" in run_by_hand().stdout


def test_an_unknown_host_is_an_error_by_hand() -> None:
    result = run_by_hand("551-8gpu", "list")
    assert result.returncode == 1
    assert result.stderr == "551-8gpu: no such fake host; list them with: python -m tests.host\n"
