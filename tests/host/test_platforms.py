# SPDX-License-Identifier: Apache-2.0
"""Other architectures and NVIDIA's other platforms: served, or named for what they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.errors import CdiGenError, ExitCode
from cdi_gen.generate import generate
from cdi_gen.paths import base_name
from tests.fakehost import driver_packages
from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.fakehost.gpus import Model, gpu, headless
from tests.hook.shared_objects import shared_object
from tests.host import driver_tree
from tests.host.driver_tree import SmallHost, link

pytestmark = pytest.mark.host

ARM = "usr/lib/aarch64-linux-gnu"
TEGRA_RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"


class TestArchitecture:
    """The loaded module says whose machine it is, the ELF files say whose libraries they are."""

    @pytest.fixture
    def arm(self) -> dict[str, Path]:
        """The real driver for arm64."""
        try:
            root = driver_packages.foreign_root("550-arm64")
        except DriverRootUnavailableError as error:
            pytest.skip(f"no arm64 driver: {error}")
        private = root / ARM / "nvidia/current"
        return {path.name: path for path in private.iterdir() if not path.is_symlink()}

    @staticmethod
    def install(host: SmallHost, arm: dict[str, Path], directory: str) -> None:
        for name, source in arm.items():
            place = host.file(f"{directory}/{name}", source)
            link(place.with_name(f"{name.partition('.so')[0]}.so.1"), name)

    def test_an_arm64_host_looked_at_elsewhere(
        self, small: Callable[..., SmallHost], arm: dict[str, Path]
    ) -> None:
        """A mounted disk, or an inventory made in a container of another machine."""
        host = small(architecture="aarch64")
        self.install(host, arm, ARM)
        inventory = host.look()
        assert inventory.architecture == "aarch64"
        assert {base_name(each.path) for each in inventory.libraries} == set(arm)

    @pytest.mark.parametrize("directory", ["usr/lib64", "opt/nvidia/lib64", ARM])
    def test_libraries_of_another_machine(
        self, small: Callable[..., SmallHost], arm: dict[str, Path], directory: str
    ) -> None:
        host = small()
        self.install(host, arm, directory)
        (host.root / "usr/lib/x86_64-linux-gnu").mkdir(parents=True)
        with pytest.raises(CdiGenError) as caught:
            host.look()
        assert caught.value.exit_code is ExitCode.ERROR
        if directory != ARM:  # which no x86 host looks in
            assert "are for aarch64, the loaded kernel module is for x86_64" in str(caught.value)

    def test_a_driver_root_of_another_machine(
        self, small: Callable[..., SmallHost], arm: dict[str, Path]
    ) -> None:
        host = small()
        self.install(host, arm, f"srv/arm64/{ARM}")
        with pytest.raises(CdiGenError, match="under /srv/arm64 are for aarch64"):
            host.look(driver_root="/srv/arm64", dev_root="/")

    def test_both_side_by_side(self, small: Callable[..., SmallHost], arm: dict[str, Path]) -> None:
        """Libraries for cross-compilers, under the names of this machine's own."""
        host = small()
        self.install(host, arm, "usr/lib/nvidia-arm64")
        host.libraries("usr/local/nvidia/lib64")
        inventory = host.look()
        assert inventory.architecture == "x86_64"
        assert {base_name(each.path) for each in inventory.libraries} >= set(arm)
        assert not [each for each in inventory.libraries if "arm64" in each.path]
        assert {each.reason for each in inventory.ignored if "arm64" in each.path} == {
            "built for aarch64"
        }


class TestTegra:
    """Jetson boards: their driver differs from a PC's; advice to reboot would be wrong."""

    @staticmethod
    def board(host: SmallHost, directory: str) -> None:
        host.text("etc/nv_tegra_release", TEGRA_RELEASE)
        for name, soname in (("libcuda.so.1.1", b"libcuda.so.1"), ("libnvidia-ml.so.1", None)):
            place = host.root / directory / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(shared_object(soname or name.encode(), "aarch64", needed=()))

    @pytest.mark.parametrize("directory", [f"{ARM}/tegra", f"{ARM}/nvidia", "usr/lib"])
    def test_it_is_named(self, small: Callable[..., SmallHost], directory: str) -> None:
        """JetPack 6: the module is loaded, its version is 540.4.0; the last is Yocto's."""
        host = small(architecture="aarch64", version="540.4.0", gpus=())
        self.board(host, directory)
        with pytest.raises(CdiGenError, match="Tegra platform") as caught:
            host.look()
        assert caught.value.exit_code is ExitCode.ERROR
        assert "reboot" not in f"{caught.value} {caught.value.hint}"

    def test_without_a_module(self, tmp_path: Path) -> None:
        """JetPack 5: nvgpu is the kernel's own driver."""
        soc = tmp_path / "sys/devices/soc0/family"
        soc.parent.mkdir(parents=True)
        soc.write_text("Tegra\n", encoding="ascii")
        with pytest.raises(CdiGenError, match=r"Tegra platform.*soc0/family") as caught:
            driver_tree.look(tmp_path)
        assert caught.value.exit_code is ExitCode.ERROR

    def test_by_its_device_tree(self, tmp_path: Path) -> None:
        tree = tmp_path / "proc/device-tree/compatible"
        tree.parent.mkdir(parents=True)
        tree.write_bytes(b"nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0")
        with pytest.raises(CdiGenError, match="Tegra platform"):
            driver_tree.look(tmp_path)

    def test_a_card_in_a_board(self, small: Callable[..., SmallHost]) -> None:
        """IGX: a board with a card, whose driver is the usual one."""
        host = small()
        host.text("etc/nv_tegra_release", TEGRA_RELEASE)
        host.libraries("usr/lib/x86_64-linux-gnu")
        assert "0" in {each.name for each in generate(host.look()).devices}


def test_wsl_is_named(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/dxg").touch()
    with pytest.raises(CdiGenError, match="WSL 2") as caught:
        driver_tree.look(tmp_path)
    assert caught.value.exit_code is ExitCode.ERROR


GRID = Model(
    name="GRID A100D-20C",
    device_id=0x20B5,
    subsystem_id=0x1591,
    compute_capability=(8, 0),
    memory_mib=20480,
    video_bios="00.00.00.00.00",
)


class TestVirtualGpus:
    """A guest of NVIDIA vGPU (GRID) has the usual driver and a few files more."""

    def test_a_guest(self, small: Callable[..., SmallHost]) -> None:
        guest = headless(gpu(0, GRID, pci_address="0000:02:01.0"))
        host = small(gpus=(guest,))
        host.libraries("usr/lib/x86_64-linux-gnu")
        host.programs("usr/bin")
        host.text("etc/nvidia/gridd.conf", "ServerAddress=\n")
        host.text("usr/bin/nvidia-gridd", "")
        inventory = host.look()
        assert [each.model for each in inventory.gpus] == ["GRID A100D-20C"]
        assert [each.name for each in generate(inventory).devices][:2] == ["0", guest.uuid]
        assert not inventory.unusable_devices

    def test_a_hypervisor(self, small: Callable[..., SmallHost]) -> None:
        """Its driver has NVML and no CUDA: containers may watch the GPUs."""
        host = small()
        host.libraries("usr/lib64", "libnvidia-ml", "libnvidia-cfg")
        host.programs("usr/bin")
        spec = generate(dataclasses.replace(host.look(), hook=None))
        places = {each.container_path for each in spec.container_edits.mounts}
        assert {"/usr/lib64/libnvidia-ml.so.1", "/usr/bin/nvidia-smi"} <= places
