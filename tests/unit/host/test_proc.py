# SPDX-License-Identifier: Apache-2.0
"""What the kernel module says of itself, in the forms of old and new drivers and in broken ones.

A fake file system is enough here: procfs is text.
"""

from __future__ import annotations

import pytest
from pyfakefs.fake_filesystem import FakeFilesystem

from cdi_gen.host.devices import proc
from cdi_gen.host.roots import Root

OPEN_580 = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (root@b)\n"
    "GCC version:  gcc version 15.3.0 (GCC) \n"
)
PROPRIETARY_470 = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Thu May  2 14:37:44 UTC 2024\n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14) \n"
)


@pytest.mark.parametrize(
    ("version_file", "sysfs", "expected"),
    [
        (OPEN_580, "580.159.04\n", ("580.159.04", "open", "x86_64")),
        (OPEN_580, None, ("580.159.04", "open", "x86_64")),
        (PROPRIETARY_470, "470.256.02\n", ("470.256.02", "proprietary", "x86_64")),
        (PROPRIETARY_470, None, ("470.256.02", "proprietary", "x86_64")),
        (PROPRIETARY_470, "rubbish\n", ("470.256.02", "proprietary", "x86_64")),
        (OPEN_580.replace("x86_64", "aarch64"), None, ("580.159.04", "open", "aarch64")),
        (
            PROPRIETARY_470.replace("x86_64", "ppc64le"),
            None,
            ("470.256.02", "proprietary", "ppc64le"),
        ),
        (PROPRIETARY_470.replace("x86_64 ", ""), None, ("470.256.02", "proprietary", None)),
        ("NVRM version: none of the known forms\n", None, None),
        ("", None, None),
        (None, "580.159.04\n", None),
    ],
)
def test_the_loaded_module(
    fs: FakeFilesystem,
    version_file: str | None,
    sysfs: str | None,
    expected: tuple[str, str, str | None] | None,
) -> None:
    if version_file is not None:
        fs.create_file("/proc/driver/nvidia/version", contents=version_file)
    if sysfs is not None:
        fs.create_file("/sys/module/nvidia/version", contents=sysfs)
    found = proc.kernel_module(Root())
    assert found == (None if expected is None else proc.KernelModule(*expected))


def test_a_gcc_version_is_not_taken_for_the_drivers(fs: FakeFilesystem) -> None:
    fs.create_file(
        "/proc/driver/nvidia/version", contents="NVRM version: odd\nGCC version: 12.2.0\n"
    )
    assert proc.kernel_module(Root()) is None


def test_major_numbers_are_those_of_character_devices(fs: FakeFilesystem) -> None:
    fs.create_file(
        "/proc/devices",
        contents="Character devices:\n195 nvidia\n195 nvidiactl\n510 nvidia-uvm\n\n"
        "Block devices:\n  7 loop\n510 nvidia-caps\n",
    )
    assert proc.majors(Root()) == {"nvidia": 195, "nvidiactl": 195, "nvidia-uvm": 510}


def test_gpus_are_in_pci_order_and_other_names_are_passed_over(fs: FakeFilesystem) -> None:
    for name in ("0000:c1:00.0", "0000:1b:00.0", "0001:00:00.0", "00010000:02:00.0", "rubbish"):
        fs.create_dir(f"/proc/driver/nvidia/gpus/{name}")
    assert proc.gpu_addresses(Root()) == [
        "0000:1b:00.0",
        "0000:c1:00.0",
        "0001:00:00.0",
        "00010000:02:00.0",
    ]


INFORMATION = """\
Model: \t\t NVIDIA H200
IRQ:   \t\t 41
GPU UUID: \t {uuid}
Bus Location: \t 0000:00:06.0
Device Minor: \t {minor}
GPU Excluded:\t {excluded}
"""
UUID = "GPU-6e89182f-c37b-3ad5-0425-f6794b260dd6"


@pytest.mark.parametrize(
    ("uuid", "excluded", "expected"),
    [
        (UUID, "No", (UUID, False)),
        (UUID, "Yes", (UUID, True)),
        ("GPU-????????-????-????-????-????????????", "No", (None, False)),
        ("GPU-6e89182f", "No", (None, False)),
        ("", "No", (None, False)),
    ],
)
def test_information_of_a_gpu(
    fs: FakeFilesystem, uuid: str, excluded: str, expected: tuple[str | None, bool]
) -> None:
    text = INFORMATION.format(uuid=uuid, minor=3, excluded=excluded)
    fs.create_file("/proc/driver/nvidia/gpus/0000:00:06.0/information", contents=text)
    found = proc.gpu_information(Root(), "0000:00:06.0")
    assert (found.uuid, found.excluded) == expected
    assert (found.minor, found.model) == (3, "NVIDIA H200")


@pytest.mark.parametrize("minor", ["", "-1", "none", "²"])
def test_a_gpu_without_a_minor_did_not_come_up(fs: FakeFilesystem, minor: str) -> None:
    text = INFORMATION.format(uuid=UUID, minor=minor, excluded="No")
    fs.create_file("/proc/driver/nvidia/gpus/0000:00:06.0/information", contents=text)
    with pytest.raises(ValueError, match="no device minor"):
        proc.gpu_information(Root(), "0000:00:06.0")


def test_mig_capabilities_are_found_by_number_not_by_text(fs: FakeFilesystem) -> None:
    base = "/proc/driver/nvidia/capabilities/gpu{}/mig/gi{}"
    for gpu, instance in ((10, 2), (2, 10), (2, 9)):
        directory = base.format(gpu, instance)
        access = f"DeviceFileMinor: {gpu * 100 + instance}\nDeviceFileMode: 292\n"
        fs.create_file(f"{directory}/access", contents=access)
        fs.create_file(f"{directory}/ci0/access", contents="DeviceFileMinor: 7\n")
    fs.create_file(base.format(3, 1) + "/access", contents="rubbish")
    found = proc.mig_capabilities(Root())
    assert [(each.gpu_minor, each.gpu_instance, each.compute_instance) for each in found] == [
        (2, 9, None),
        (2, 9, 0),
        (2, 10, None),
        (2, 10, 0),
        (10, 2, None),
        (10, 2, 0),
    ]
    assert (found[0].device_minor, found[0].file_mode) == (209, 0o444)
