# SPDX-License-Identifier: Apache-2.0
"""Faults of the kernel module, of GPUs on the bus and in the kernel's log, each on a good host."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cdi_gen.doctor import checks
from cdi_gen.doctor.check import Result
from cdi_gen.doctor.host import Host
from cdi_gen.doctor.run import run_one
from cdi_gen.host import Where
from tests.doctor.examining import healthy, link_in, log, running, write
from tests.fakehost.gpus import Model, headless, several
from tests.fakehost.hosts import FakeHost
from tests.fakehost.kernel import Kernel
from tests.system.machine import machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root creates device nodes")

LOADED = Kernel(driver_version="550.163.01", gpus=several(2))
UNLOADED = replace(LOADED, loaded=False, gpus=tuple(map(headless, LOADED.gpus)))
FIRST, SECOND = (gpu.pci_address for gpu in LOADED.gpus)
RELEASE = LOADED.release
MODULE = f"lib/modules/{RELEASE}/modules.dep"
MODPROBE = "etc/modprobe.d/blacklist-nvidia.conf"
EFI = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

P40 = Model(
    name="Tesla P40",
    device_id=0x1B38,
    subsystem_id=0x11D9,
    compute_capability=(6, 1),
    memory_mib=22919,
    video_bios="86.02.23.00.01",
)
B200 = Model(
    name="NVIDIA B200",
    device_id=0x2901,
    subsystem_id=0x1999,
    compute_capability=(10, 0),
    memory_mib=183359,
    video_bios="97.00.5a.00.01",
)

CHECKS = {check.name: check for check in checks.load()}


def examined(root: Path, name: str) -> Result:
    return run_one(CHECKS[name], Host(Where(str(root))))


def built(root: Path) -> None:
    write(root, MODULE, "updates/dkms/nvidia.ko.zst: updates/dkms/x.ko\n")


def bind(root: Path, address: str, driver: str) -> None:
    directory = root / f"sys/bus/pci/drivers/{driver}"
    directory.mkdir(parents=True, exist_ok=True)
    link_in(root, f"sys/bus/pci/devices/{address}", "driver", directory)


def bound(root: Path) -> None:
    for address in (FIRST, SECOND):
        bind(root, address, "nvidia")


def not_loaded(root: Path) -> None:
    built(root)


def never_installed(root: Path) -> None:
    write(root, "etc/os-release", 'ID=ubuntu\nID_LIKE=debian\nPRETTY_NAME="Ubuntu 24.04.3 LTS"\n')


def built_for_another_kernel(root: Path) -> None:
    write(root, MODULE, "kernel/fs/ext4/ext4.ko.zst:\n")
    write(root, "lib/modules/6.1.0-1-amd64/modules.dep", "updates/dkms/nvidia-current.ko:\n")
    write(root, "var/lib/dkms/nvidia-current/550.163.01/build/make.log", "error: implicit\n")


def kernel_was_updated(root: Path) -> None:
    write(root, "lib/modules/6.99.0/modules.dep", "updates/dkms/nvidia.ko.zst:\n")


def rejected(root: Path) -> None:
    built(root)
    log(
        root, "Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7"
    )
    write(root, "var/lib/dkms/mok.pub")


def blocked_by_file(root: Path) -> None:
    built(root)
    write(root, MODPROBE, "# by prime-select\nblacklist nvidia-drm\n blacklist  nvidia\n")


def blocked_by_install(root: Path) -> None:
    built(root)
    write(root, "usr/lib/modprobe.d/off.conf", "install nvidia /bin/false\n")


def blocked_by_parameter(root: Path) -> None:
    built(root)
    write(root, "proc/cmdline", "quiet module_blacklist=nouveau,nvidia ro\n")


def built_with_other_symbols(root: Path) -> None:
    built(root)
    log(root, "nvidia: disagrees about version of symbol module_layout")


def secure_boot_without_log(root: Path) -> None:
    built(root)
    path = write(root, EFI)
    path.write_bytes(b"\x06\0\0\0\x01")
    (root / "dev/kmsg").unlink()


@pytest.mark.parametrize(
    ("break_host", "code", "words", "fix"),
    [
        (not_loaded, "CDG-A001", "2 NVIDIA GPUs on the PCI bus", "sudo modprobe nvidia"),
        (rejected, "CDG-A003", "unsigned module loading", "mokutil --import /var/lib/dkms/mok.pub"),
        (
            built_for_another_kernel,
            "CDG-A004",
            "6.1.0-1-amd64); the kernel's headers are missing; the build of 550.163.01 failed, see /var",
            f"apt-get install linux-headers-{RELEASE} && sudo dkms autoinstall -k {RELEASE} && sudo",
        ),
        (kernel_was_updated, "CDG-A004", f"running kernel {RELEASE} are gone", "sudo reboot"),
        (never_installed, "CDG-A005", "no kernel has", "ubuntu-drivers install"),
        (
            blocked_by_file,
            "CDG-A006",
            f"/{MODPROBE} keeps the kernel module nvidia from being loaded: blacklist nvidia",
            rf"sudo sed -i -E '/^\s*(blacklist|install)\s+nvidia/d' /{MODPROBE} && sudo update-initramfs -u",
        ),
        (
            blocked_by_install,
            "CDG-A006",
            "install nvidia /bin/false",
            "/usr/lib/modprobe.d/off.conf",
        ),
        (blocked_by_parameter, "CDG-A006", "module_blacklist=nouveau,nvidia", "update-grub"),
        (built_with_other_symbols, "CDG-A007", "disagrees about version", "dmesg"),
        (secure_boot_without_log, "CDG-A001", "Secure Boot is on", "modprobe"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_why_the_module_is_not_loaded(
    tmp_path: Path, break_host: Callable[[Path], None], code: str, words: str, fix: str
) -> None:
    root = machine(tmp_path / "host", UNLOADED)
    running(root)
    break_host(root)
    result = examined(root, "driver-loaded")
    (finding,) = result.findings
    assert (result.status, finding.code) == ("fault", code)
    assert words in finding.message
    assert fix in finding.fix


def test_nothing_keeps_the_module_of_another_name_from_being_loaded(tmp_path: Path) -> None:
    root = machine(tmp_path / "host", UNLOADED)
    running(root)
    built(root)
    write(root, MODPROBE, "blacklist nouveau\nblacklist nvidiafb\n")
    write(
        root, "etc/modprobe.d/nvidia.conf", "install nvidia modprobe -i nvidia-current $CMDLINE\n"
    )
    assert [finding.code for finding in examined(root, "driver-loaded").findings] == ["CDG-A001"]


def test_a_file_in_etc_hides_that_of_the_package(tmp_path: Path) -> None:
    """modprobe.d(5): of two files of one name the first directory's counts."""
    root = machine(tmp_path / "host", UNLOADED)
    running(root)
    built(root)
    write(root, "usr/lib/modprobe.d/off.conf", "blacklist nvidia\n")
    write(root, "etc/modprobe.d/off.conf", "# nothing\n")
    assert [finding.code for finding in examined(root, "driver-loaded").findings] == ["CDG-A001"]


def codes(result: Result) -> list[str]:
    return [finding.code for finding in result.findings]


@pytest.mark.parametrize(
    ("driver", "code", "words"),
    [
        ("nouveau", "CDG-A002", "bound to nouveau"),
        ("pci-stub", "CDG-A009", "bound to the driver pci-stub"),
        ("vfio-pci", "CDG-A012", "in no IOMMU group"),
        (None, "CDG-A009", "bound to no driver"),
    ],
)
def test_gpu_with_another_driver(tmp_path: Path, driver: str | None, code: str, words: str) -> None:
    root = machine(tmp_path / "host", LOADED)
    bound(root)
    assert examined(root, "gpu-drivers").status == "ok"
    (root / f"sys/bus/pci/devices/{SECOND}/driver").unlink()
    if driver:
        bind(root, SECOND, driver)
    result = examined(root, "gpu-drivers")
    finding = result.findings[0]
    assert (result.status, finding.code, finding.subject) == ("fault", code, SECOND)
    assert words in finding.message


def test_all_gpus_with_nouveau_are_one_fault_each_and_the_module_is_not_asked_for(
    tmp_path: Path,
) -> None:
    root = machine(tmp_path / "host", UNLOADED)
    for address in (FIRST, SECOND):
        bind(root, address, "nouveau")
    assert examined(root, "driver-loaded").status == "not-applicable"
    assert codes(examined(root, "gpu-drivers")) == ["CDG-A002", "CDG-A002"]


def test_without_nouveau_the_running_kernel_would_have_no_module(tmp_path: Path) -> None:
    root = machine(tmp_path / "host", UNLOADED)
    for address in (FIRST, SECOND):
        bind(root, address, "nouveau")
    write(root, "lib/modules/6.1.0-1-amd64/modules.dep", "updates/dkms/nvidia.ko:\n")
    write(root, f"lib/modules/{RELEASE}/modules.dep")
    (finding,) = examined(root, "driver-loaded").findings
    assert (finding.code, RELEASE in finding.message) == ("CDG-A004", True)
    assert finding.fix.startswith("boot a kernel that has the module (6.1.0-1-amd64), or build it")
    built(root)
    assert examined(root, "driver-loaded").status == "not-applicable"


@pytest.mark.parametrize(
    ("release", "managers", "tool"),
    [
        ("", (), "update-initramfs -u"),
        ("", ("dnf",), "dracut --force"),
        ("", ("pacman",), "mkinitcpio -P"),
        ("ID=rhel\n", (), "dracut --force"),
        ("ID=rhel\n", ("dnf", "apt-get"), "dracut --force"),
        ("ID=rhel\n", ("apt-get",), "update-initramfs -u"),
    ],
)
def test_the_tool_of_the_distribution(
    tmp_path: Path, release: str, managers: tuple[str, ...], tool: str
) -> None:
    """The installed package manager counts where os-release says nothing, or something else."""
    root = machine(tmp_path / "host", UNLOADED)
    bind(root, FIRST, "nouveau")
    write(root, "etc/os-release", release)
    for manager in managers:
        write(root, f"usr/bin/{manager}")
    (finding,) = examined(root, "gpu-drivers").findings
    assert f"&& sudo {tool} &&" in finding.fix


@pytest.mark.parametrize(
    ("model", "version", "is_open", "code"),
    [
        (P40, "590.44.01", False, "CDG-M012"),
        (P40, "580.95.05", True, "CDG-M013"),
        (P40, "580.95.05", False, None),
        (B200, "580.95.05", False, "CDG-M013"),
        (B200, "580.95.05", True, None),
    ],
    ids=["branch-dropped-it", "open-before-turing", "last-branch", "blackwell-closed", "blackwell"],
)
def test_driver_for_the_generation_of_the_gpu(
    tmp_path: Path, model: Model, version: str, is_open: bool, code: str | None
) -> None:
    kernel = Kernel(driver_version=version, gpus=several(1, model), open_module=is_open)
    result = examined(machine(tmp_path / "host", kernel), "gpu-support")
    assert codes(result) == ([code] if code else [])
    assert result.status == ("fault" if code else "ok")


@pytest.mark.parametrize(
    ("check", "line", "code", "severity", "fix"),
    [
        ("gpu-errors", "NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x26:0x56:1474)",
         "CDG-A044", "error", "poweroff"),
        ("gpu-errors", "nvidia 0000:3b:00.0: probe with driver nvidia failed with error -1",
         "CDG-A044", "error", "nvidia-bug-report"),
        ("gpu-errors", "nvidia 0000:3b:00.0: Direct firmware load for nvidia/550/gsp_ga10x.bin failed",
         "CDG-A044", "error", "with its firmware"),
        ("gpu-errors", "NVRM: BAR1 is 0M @ 0x0 (PCI:0000:3b:00.0)", "CDG-A046", "error",
         "Above 4G Decoding"),
        ("gpu-errors", "NVRM: GPU at PCI:0000:3b:00: GPU-1: GPU has fallen off the bus.",
         "CDG-A045", "error", "poweroff"),
        ("xid-errors", "NVRM: Xid (PCI:0000:3b:00): 79, pid=7, GPU has fallen off the bus.",
         "CDG-A041", "error", "sudo reboot"),
        ("xid-errors", "NVRM: Xid (PCI:0000:3b:00): 48, pid=7, DBE (double bit error)",
         "CDG-A043", "warning", ""),
        ("xid-errors", "NVRM: Xid (PCI:0000:3b:00): 119, pid=7, Timeout waiting for RPC from GSP",
         "CDG-A041", "error", "nvidia-smi --gpu-reset -i 0000:3b:00"),
        ("xid-errors", "NVRM: Xid (PCI:0000:3b:00): 31, pid=7, MMU Fault",
         "CDG-A042", "info", ""),
        ("xid-errors", "NVRM: Xid (PCI:0000:3b:00): 9999, pid=7, new",
         "CDG-A041", "error", ""),
    ],
)  # fmt: skip
def test_messages_of_the_driver(
    tmp_path: Path, check: str, line: str, code: str, severity: str, fix: str
) -> None:
    root = machine(tmp_path / "host", LOADED)
    running(root)
    assert examined(root, check).status == "ok"
    log(root, "usb 1-1: new device", line, line)
    (finding,) = examined(root, check).findings
    assert (finding.code, finding.severity) == (code, severity)
    assert finding.subject.startswith("0000:3b:00")
    assert fix in finding.fix


@pytest.mark.parametrize("check", ["xid-errors", "gpu-errors"])
def test_errors_of_before_the_driver_was_loaded_again_are_past(tmp_path: Path, check: str) -> None:
    root = machine(tmp_path / "host", LOADED)
    loading = "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  550.163.01"
    errors = (
        "NVRM: Xid (PCI:0000:3b:00): 79, pid=7, GPU has fallen off the bus.",
        "NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x26:0x56:1474)",
    )
    log(root, loading, *errors)
    assert examined(root, check).status == "fault"
    log(root, loading, *errors, loading)
    assert examined(root, check).status == "ok"


def test_repeated_errors_are_one_finding_with_its_age(tmp_path: Path) -> None:
    root = machine(tmp_path / "host", LOADED)
    write(root, "proc/uptime", "7300.00 1.0\n")
    log(root, *["NVRM: Xid (PCI:0000:3B:00): 31, pid=7, MMU Fault"] * 3)
    (finding,) = examined(root, "xid-errors").findings
    assert "3 times, last 2 h ago" in finding.message


def test_a_lost_gpu_is_one_finding_however_its_address_is_written(tmp_path: Path) -> None:
    root = machine(tmp_path / "host", LOADED)
    log(
        root,
        "NVRM: Xid (PCI:0000:3b:00): 79, pid=7, GPU has fallen off the bus.",
        "NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.",
    )
    (finding,) = examined(root, "gpu-errors").findings
    assert (finding.code, finding.subject) == ("CDG-A045", "0000:3b:00.0")


def test_gpu_that_the_driver_does_not_list(own_host: Callable[[str], FakeHost]) -> None:
    fake = own_host("550-1gpu")
    assert examined(fake.root, "gpu-usable").status == "ok"
    device = fake.root / "sys/bus/pci/devices/0000:99:00.0"
    for name, value in {"vendor": "0x10de", "device": "0x2330", "class": "0x030200"}.items():
        write(device, name, f"{value}\n")
    (finding,) = examined(fake.root, "gpu-usable").findings
    assert (finding.code, finding.subject) == ("CDG-A031", "0000:99:00.0")


def test_running_daemon_without_its_socket(tmp_path: Path) -> None:
    root = machine(tmp_path / "host", LOADED)
    healthy(root)
    assert examined(root, "persistenced").status == "ok"
    write(root, "usr/bin/nvidia-persistenced")
    (root / "run/nvidia-persistenced/socket").unlink()
    assert codes(examined(root, "persistenced")) == ["CDG-A082"]


def test_processes_of_a_container_are_not_those_of_the_host(tmp_path: Path) -> None:
    root = machine(tmp_path / "host", LOADED)
    healthy(root)
    write(root, "run/.containerenv")
    assert examined(root, "persistenced").status == "unseen"


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"etc/os-release": "ID=talos\n"}, "CDG-A141"),
        ({"etc/os-release": "ID=fedora\n", "run/ostree-booted": ""}, "CDG-A141"),
        ({"run/.containerenv": ""}, "CDG-A143"),
    ],
)
def test_hosts_with_directories_of_their_own(
    tmp_path: Path, files: dict[str, str], code: str
) -> None:
    root = machine(tmp_path / "host", LOADED)
    assert codes(examined(root, "platform")) == []
    for path, text in files.items():
        write(root, path, text)
    result = examined(root, "platform")
    assert (codes(result), result.status) == ([code], "ok")


def test_wsl_without_a_driver_of_windows_and_with_two(tmp_path: Path) -> None:
    root = tmp_path / "host"
    write(root, "dev/dxg")
    assert codes(examined(root, "platform")) == ["CDG-A144", "CDG-H002"]
    for name in ("nv_dispi.inf_amd64_1", "nv_dispi.inf_amd64_2"):
        write(root, f"usr/lib/wsl/drivers/{name}/libcuda.so.1.1")
    assert codes(examined(root, "platform")) == ["CDG-H002", "CDG-A145"]


def test_a_host_without_gpu_and_driver_is_told_so(tmp_path: Path) -> None:
    result = examined(tmp_path, "gpu-present")
    assert (codes(result), result.status) == (["CDG-A013"], "warning")


def test_files_of_two_drivers(own_host: Callable[[str], FakeHost]) -> None:
    fake = own_host("550-1gpu")
    library = next(fake.root.rglob(f"libcuda.so.{fake.driver_version}"))
    write(library.parent, "libcuda.so.535.261.03")
    result = examined(fake.root, "driver-libraries")
    assert codes(result) == ["CDG-A022"]
    assert "other drivers (535.261.03)" in result.findings[0].message


def test_a_compat_package_in_the_loaders_configuration(own_host: Callable[[str], FakeHost]) -> None:
    """NVIDIA's cuda-compat on a host: `CUDA error 803`."""
    fake = own_host("550-1gpu")
    library = fake.root / f"usr/lib/x86_64-linux-gnu/libcuda.so.{fake.driver_version}"
    compat = fake.root / "usr/local/cuda/compat"
    compat.mkdir(parents=True)
    (compat / "libcuda.so.575.51.03").write_bytes(library.read_bytes())
    (compat / "libcuda.so.1").symlink_to("libcuda.so.575.51.03")
    write(fake.root / "etc/ld.so.conf.d", "000_cuda.conf", "/usr/local/cuda/compat\n")
    configuration = fake.root / "etc/ld.so.conf"
    configuration.unlink(missing_ok=True)
    configuration.write_text("include /etc/ld.so.conf.d/*.conf\n")
    cache = fake.root / "etc/ld.so.cache"
    cache.unlink(missing_ok=True)
    subprocess.run(["ldconfig", "-r", fake.root, "-f", "/etc/ld.so.conf"], check=True)
    finding = examined(fake.root, "driver-libraries").findings[0]
    assert finding.code == "CDG-A025"
    assert "takes /usr/local/cuda/compat/libcuda.so.1 of 575.51.03" in finding.message
    (fake.root / "etc/ld.so.conf.d/000_cuda.conf").unlink()
    subprocess.run(["ldconfig", "-r", fake.root, "-f", "/etc/ld.so.conf"], check=True)
    assert examined(fake.root, "driver-libraries").findings == ()


def test_installation_that_is_not_whole(own_host: Callable[[str], FakeHost]) -> None:
    fake = own_host("550-1gpu")
    assert examined(fake.root, "driver-files").findings == ()
    libraries = fake.root / "usr/lib/x86_64-linux-gnu"
    (libraries / f"libcuda.so.{fake.driver_version}").unlink()
    compiler = libraries / f"libnvidia-ptxjitcompiler.so.{fake.driver_version}"
    compiler.unlink()
    compiler.write_text("truncated")
    for name in ("etc/ld.so.cache", "usr/bin/nvidia-smi"):
        (fake.root / name).unlink()
    write(fake.root, "etc/ld.so.cache", "garbage")
    for firmware in fake.root.rglob("gsp_*.bin"):
        firmware.unlink()
    result = examined(fake.root, "driver-files")
    severities = [(finding.code, finding.severity) for finding in result.findings]
    assert severities == [
        ("CDG-A023", "error"),  # libcuda
        ("CDG-A023", "error"),  # the compiler of PTX
        ("CDG-H405", "error"),
        ("CDG-H401", "warning"),
        ("CDG-A024", "warning"),
    ]
    assert "libcuda.so.1: cannot open shared object file" in result.line
    assert "--reinstall libcuda1" in result.findings[0].fix
