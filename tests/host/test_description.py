# SPDX-License-Identifier: Apache-2.0
"""GPUs of hosts for which there are no specs: Jetson, WSL 2, GPUs for virtual machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cdi_gen.errors import CdiGenError
from cdi_gen.host import Where
from cdi_gen.host.description import BY_SYSFS, Description, describe
from cdi_gen.host.devices.passthrough import addressable_memory
from cdi_gen.host.roots import Root
from cdi_gen.inventory import TEGRA, VFIO, WSL
from cdi_gen.kubernetes.probe import Facts
from tests.host import looking
from tests.host.platform_hosts import BARS, ORIN, PlatformHost, jetson, passthrough, pci_device, wsl

GIB = 1 << 30


def described(host: PlatformHost, discovery: str = "auto") -> Facts:
    """The GPUs of a host by a process of its own, as the labels get them: a library stays loaded.

    Raises:
        CdiGenError: they cannot be described.
    """
    request = {**Where(host_root=str(host.root))._asdict(), "discovery": discovery}
    done = subprocess.run(
        [sys.executable, "-m", "cdi_gen.kubernetes.probe"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": looking.SOURCES},
        check=True,
    )
    document = json.loads(done.stdout)
    if "error" in document:
        error = document["error"]
        raise CdiGenError(error["message"], hint=error["hint"], code=error["code"])
    return Facts.of(document)


def by_sysfs(host: PlatformHost) -> Description:
    return describe(Where(host_root=str(host.root)), BY_SYSFS)


class TestJetson:
    @pytest.mark.parametrize("discovery", ["auto", "tegra"])
    def test_cuda_is_asked(self, tmp_path: Path, discovery: str) -> None:
        """NVIDIA/k8s-device-plugin#984 (2025): a node with a Jetson Orin Nano gets no labels."""
        facts = described(jetson(tmp_path, ORIN), discovery)
        (gpu,) = facts.inventory.gpus
        values = facts.properties.gpu(0)
        assert (facts.inventory.platform, gpu.model, gpu.uuid) == (TEGRA, "Orin", None)
        # More than 32 bits hold.
        assert (values.memory_mib, values.compute_capability) == (62841, "8.7")
        assert facts.properties.cuda_version == "12.6"
        assert facts.inventory.driver is None

    def test_a_library_that_does_not_load_is_named_and_the_next_one_used(
        self, tmp_path: Path
    ) -> None:
        host = jetson(tmp_path, ORIN)
        newer = tmp_path / "usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1"
        newer.parent.mkdir()
        newer.write_text("not a library")
        assert described(host).inventory.gpus
        (tmp_path / "usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1").unlink()
        with pytest.raises(CdiGenError, match=r"nvidia/libcuda\.so\.1 does not load") as error:
            described(host)
        assert error.value.code == "CDG-H006"

    def test_a_library_without_the_functions_is_no_libcuda(self, tmp_path: Path) -> None:
        host = jetson(tmp_path, ORIN)
        library = tmp_path / "usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1"
        library.unlink()
        library.write_bytes(Path(wsl(tmp_path / "wsl").libraries / "libdxcore.so").read_bytes())
        with pytest.raises(CdiGenError, match="is not a libcuda"):
            described(host)

    @pytest.mark.skipif(os.geteuid() != 0, reason="other users load what they like")
    def test_root_loads_no_library_that_others_can_change(self, tmp_path: Path) -> None:
        host = jetson(tmp_path, ORIN)
        (tmp_path / "usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1").chmod(0o666)
        with pytest.raises(CdiGenError, match="that only root can change"):
            described(host)


class TestWsl:
    @pytest.mark.parametrize("discovery", ["auto", "nvml"])
    def test_nvml_lists_the_gpus(self, tmp_path: Path, discovery: str) -> None:
        facts = described(wsl(tmp_path, 2), discovery)
        assert facts.inventory.platform == WSL
        assert [gpu.model for gpu in facts.inventory.gpus] == ["NVIDIA GeForce RTX 4090"] * 2
        assert all(gpu.uuid and not gpu.pci_address for gpu in facts.inventory.gpus)
        assert facts.inventory.driver
        assert facts.inventory.driver.version == "550.163.01"
        assert facts.properties.gpu(1).memory_mib == 24564
        assert facts.properties.machine is None

    def test_a_library_in_the_driver_store_is_found(self, tmp_path: Path) -> None:
        """kubernetes-sigs/dra-driver-nvidia-gpu#1201 (2026): libnvidia-ml.so.1 is not found."""
        host = wsl(tmp_path)
        store = tmp_path / "usr/lib/wsl/drivers/nv_dispi.inf_amd64_7cc7738d8e428783"
        store.parent.mkdir()
        (tmp_path / "usr/lib/wsl/lib").rename(store)
        assert described(host).inventory.gpus

    def test_a_host_without_the_library_is_an_error_with_a_hint(self, tmp_path: Path) -> None:
        host = wsl(tmp_path)
        (tmp_path / "usr/lib/wsl/lib/libnvidia-ml.so.1").unlink()
        with pytest.raises(CdiGenError, match=r"no libnvidia-ml\.so\.1 of WSL 2") as error:
            described(host)
        assert "/usr/lib/wsl/lib" in error.value.message
        assert "runtime" in (error.value.hint or "")


class TestPassthrough:
    def test_the_gpus_of_vfio_pci_are_described_by_sysfs(self, tmp_path: Path) -> None:
        host = passthrough(tmp_path, 2)
        inventory, properties = by_sysfs(host)
        assert inventory.platform == VFIO
        assert [gpu.model for gpu in inventory.gpus] == ["GH100 [H100 SXM5 80GB]"] * 2
        assert properties.gpu(1).addressable_memory == 256 * GIB
        assert properties.gpu(1).pci_class == 0x0302
        assert properties.machine == "PowerEdge XE9680"

    def test_other_devices_are_not_gpus(self, tmp_path: Path) -> None:
        host = passthrough(tmp_path, 1)
        pci_device(host, "0000:20:00.0", driver="nvidia")
        pci_device(host, "0000:21:00.0", driver=None)
        pci_device(host, "0000:22:00.0", device=0x22A3, pci_class=0x068000)  # NVSwitch
        pci_device(host, "0000:23:00.0", device=0x1021, pci_class=0x020700, vendor=0x15B3)
        pci_device(host, "0000:24:00.4", virtual=True)
        pci_device(host, "0000:25:00.1", device=0x22BA, pci_class=0x040300)  # audio
        (gpu,) = by_sysfs(host).inventory.gpus
        assert gpu.pci_address == "0000:18:00.0"

    def test_a_gpu_that_the_pci_ids_do_not_have(self, tmp_path: Path) -> None:
        host = passthrough(tmp_path, 0)
        pci_device(host, "0000:18:00.0", device=0xFFFE, pci_class=0x030000)
        assert [gpu.model for gpu in by_sysfs(host).inventory.gpus] == ["UNKNOWN_DEVICE"]

    def test_a_host_without_such_gpus(self, tmp_path: Path) -> None:
        assert by_sysfs(passthrough(tmp_path, 0)).inventory.gpus == ()

    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            (BARS, 256 * GIB),
            (BARS[2:3], 128 * GIB),
            (BARS[:2], 0),
            ((), 0),
            (("rubbish", "0x1 0x2", *BARS[2:3]), 128 * GIB),
            ((BARS[1],) * 6 + BARS[2:3], 0),
            (("0x0000202000000000 0x0000201000000000 0x000000000014220c",), 0),
        ],
        ids=["h100", "power of two", "32 bits", "empty", "lines", "expansion", "end before start"],
    )
    def test_addressable_memory(
        self, tmp_path: Path, lines: tuple[str, ...], expected: int
    ) -> None:
        directory = tmp_path / "sys/bus/pci/devices/0000:18:00.0"
        directory.mkdir(parents=True)
        (directory / "resource").write_text("\n".join(lines))
        assert addressable_memory(Root(seen_from=str(tmp_path)), "0000:18:00.0") == expected

    def test_a_gpu_without_the_file_has_none(self, tmp_path: Path) -> None:
        assert addressable_memory(Root(seen_from=str(tmp_path)), "0000:18:00.0") == 0
