# SPDX-License-Identifier: Apache-2.0
"""NVIDIA_VISIBLE_DEVICES: each form of a value, and its meaning.

Where a row says "nvidia-ctk:", the NVIDIA Container Toolkit 1.20 behaves differently.
"""

from __future__ import annotations

import pytest

from tests.runtime.requests import (
    DIRECTORY,
    MIG,
    MOUNTS,
    OLD_MIG,
    PRIVILEGED,
    UNPRIVILEGED,
    UUID,
    V,
    asked,
    config_of,
    refused,
    settings_of,
)

# NVIDIA_VISIBLE_DEVICES.


@pytest.mark.parametrize(
    ("value", "devices"),
    [
        (None, ()), ("", ()), (",", ()), (" , ,\t", ()), ("void", ()), ("VOID", ()),
        ("all", ("all",)), ("ALL", ("all",)), (" all ", ("all",)),
        # nvidia-ctk, jit-cdi before 1.18: all GPUs (issues 1555 and 1562).
        ("none", ("none",)),
        ("0", ("0",)), ("0,1", ("0", "1")), ("1,0", ("1", "0")), ("15", ("15",)),
        (" 0 , 1 ,", ("0", "1")), (",,0,,", ("0",)),
        # nvidia-ctk: the second makes the list ["", "0"], and "" is taken for "none": no GPU.
        ("0,0", ("0",)), ("0,1,0", ("0", "1")), ("0,00", ("0",)),
        ("0:1", ("0:1",)), ("0:1,0:1,1:0", ("0:1", "1:0")), ("00:01", ("0:1",)),
        (UUID, (UUID,)), (UUID.lower(), (UUID.lower(),)), (UUID.upper(), (UUID.upper(),)),
        (f"{UUID},{UUID}", (UUID,)),
        (MIG, (MIG,)), (MIG.lower(), (MIG.lower(),)), (OLD_MIG, (OLD_MIG,)),
        # A PCI address, as procfs, as NVML and as lspci has it; nvidia-ctk: in mode legacy alone.
        ("0000:3b:00.0", ("pci-0000-3b-00-0",)), ("00000000:3B:00.0", ("pci-0000-3b-00-0",)),
        ("3b:00.0", ("pci-0000-3b-00-0",)), ("00010000:e1:1f.7", ("pci-10000-e1-1f-7",)),
        ("0000:3b:00.0,00000000:3B:00.0", ("pci-0000-3b-00-0",)),
        # As specs name devices.
        ("pci-0000-3b-00-0", ("pci-0000-3b-00-0",)), ("gpu0", ("gpu0",)), ("mig0:1", ("mig0:1",)),
        # CDI names.
        ("nvidia.com/gpu=0", ("nvidia.com/gpu=0",)),
        ("nvidia.com/gpu=all,nvidia.com/gds=all", ("nvidia.com/gpu=all", "nvidia.com/gds=all")),
        ("runtime.nvidia.com/gpu=0", ("runtime.nvidia.com/gpu=0",)),
        (f"nvidia.com/gpu={UUID}", (f"nvidia.com/gpu={UUID}",)),
        ("nvidia.com/mig-1g.5gb=0:1", ("nvidia.com/mig-1g.5gb=0:1",)),
        # A special word stands in place of the others; `void` wins wherever it is.
        ("all,0", ("all",)), ("0,all", ("all",)), ("none,0", ("none",)), ("0,none", ("none",)),
        ("none,all", ("none",)), ("all,none", ("all",)), ("all,all", ("all",)),
        ("0,void", ()), ("void,all", ()), ("all,void", ()), ("x!,void", ()),
        ("void,vendor.com/x=y", ()),
        # But CDI names may be of other kinds. nvidia-ctk, jit-cdi: all that follows is dropped.
        ("all,nvidia.com/gds=all", ("all", "nvidia.com/gds=all")),
        ("nvidia.com/gds=all,1,none", ("none", "nvidia.com/gds=all")),
    ],
)  # fmt: skip
def test_devices_of_a_list(value: str | None, devices: tuple[str, ...]) -> None:
    request = asked(config_of({} if value is None else {V: value}))
    assert request.devices == devices
    assert request.source == ("" if value is None else V)
    assert request.warnings == ()


@pytest.mark.parametrize(
    "value",
    [
        "foo", "GPU", "-1", "+1", "0x1", "1.5", "1e3", "٣", "²", "0;1", "0 1", "0\n1", "0\x001", "1234567",
        ":", "0:", ":1", "0:1:2", "0: 1", "0:x",
        "GPU-", "GPU-8d4c9b2e", UUID[:-1], UUID + "0", UUID.replace("-", ""), UUID[:-1] + "g",
        "XPU" + UUID[3:], f"MIG-{UUID}", f"MIG-{UUID}/1", f"MIG-{UUID}/1/0/2",
        f"MIG-{UUID}/1/x", f"MIG-{UUID}//", f"GPU-{UUID}/1/0", "all/1/0",
        "0000:3b:00", "3b.0", "0000:3b:00.x", "0000:3b:0.0", "000:3b:00.0", "0000:0000:3b:00.0",
        "000000000:3b:00.0", ":3b:00.0", "0000:3b:00.0.0", "0000-3b-00-0", "0000:3b-:00.0",
        "pci-0000-3b-00", "pci-0000-3b-00-0-0", "pci-", "gpu", "gpux", "mig0", "mig0:", "mig:1",
        # No CDI names.
        "nvidia.com/gpu=", "nvidia.com/gpu", "nvidia.com=0", "=0", "/=0", "nvidia.com/=0", "/gpu=0",
        "nvidia.com/gpu=0=1", "nvidia.com/gpu/x=0", "nvidia.com/gpu=-", "nvidia.com/gpu=a b",
        "1nvidia.com/gpu=0", "nvidia.com/gpu-=0", "nvidia.com/gpu=../x", "nvidia.com/gpü=0",
        # The words that nvidia-ctk itself passes to its generator.
        "mode=gds", "mode=imex", "/dev/nvidia0", "../../etc/shadow", "--device=0", "$(id)", "%s",
    ],
)  # fmt: skip
@pytest.mark.parametrize("beside", ["{}", "0,{}", "all,{}", "{},none"])
def test_word_in_no_form_is_rejected(value: str, beside: str) -> None:
    message = refused(config_of({V: beside.format(value)}))
    assert message.startswith(f"{V}: ")
    assert "is not a device: use all, none, void, an index" in message


@pytest.mark.parametrize("value", ['"all"', "'all'", '"0', '0"', '"0,1"'])
def test_quotes_in_a_value_get_a_hint(value: str) -> None:
    """`- NVIDIA_VISIBLE_DEVICES="all"` in a list of Compose, or in an --env-file."""
    hint = "the quotes are part of the value"
    assert hint in refused(config_of({V: value}))
    assert hint in refused(config_of({V: "0", "NVIDIA_DRIVER_CAPABILITIES": value}))
    assert hint not in refused(config_of({V: "zero"}))


def test_other_device_names_are_accepted_in_mode_cdi() -> None:
    """In mode cdi any device name that CDI allows is one of the default kind."""
    config = config_of({V: "my_gpu.a,0"})
    assert asked(config, settings_of(mode="cdi")).devices == ("my_gpu.a", "0")
    assert "is not a device" in refused(config)
    assert "is not a device" in refused(config_of({V: "my gpu"}), settings_of(mode="cdi"))


MIGS = tuple(f"MIG-{number:08x}-1f3a-4c5d-9e6f-0123456789ab" for number in range(11_200))


@pytest.mark.parametrize(
    ("words", "devices"),
    [
        # kubelet's device plugin names the device of each of a pod's time slices.
        ([UUID] * 100, (UUID,)),
        # 16 GPUs of 7 MIG devices of 100 slices, one after the other or in turn.
        ([uuid for uuid in MIGS[:112] for _ in range(100)], MIGS[:112]),
        (MIGS[:112] * 100, MIGS[:112]),
        (MIGS, MIGS),
        (["0"] * 500_000, ("0",)),
        (["0", " ", ""] * 100_000, ("0",)),
    ],
    ids=["slices of one GPU", "slices", "slices in turn", "names", "short", "blanks"],
)
def test_largest_list_is_accepted(words: list[str], devices: tuple[str, ...]) -> None:
    text = ",".join(words)
    assert asked(config_of({V: text})).devices == devices
    assert asked(config_of({"A": text}), settings_of(swarm_resource=("A", "B"))).devices == devices
    assert asked(config_of(annotations={"cdi.k8s.io/x": text})).devices == devices
    mounts = [f"{DIRECTORY}/{word}" for word in words if word.strip()]
    assert asked(config_of(mounts=mounts), MOUNTS).devices == devices


def test_all_imex_channels_by_number_are_accepted() -> None:
    numbers = tuple(range(2048))
    text = ",".join(map(str, numbers * 3))
    channels = asked(config_of({V: "0", "NVIDIA_IMEX_CHANNELS": text})).imex_channels
    assert channels == numbers
    mounts = [f"{DIRECTORY}/imex/{number}" for number in numbers * 3]
    assert asked(config_of({V: "0"}, mounts), MOUNTS).imex_channels == numbers


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0," * (1 << 19) + "0", "longer than 1048576 bytes"),
        ("é" * (1 << 19) + "0", "longer than 1048576 bytes"),
        ("é" * (1 << 19), "is not a device"),
        ("0," * ((1 << 19) - 1) + "0", None),
        (",".join(map(str, range(16_385))), "lists more than 16384 devices"),
        (",".join(map(str, range(16_384))), None),
    ],
)
def test_list_that_is_too_long_is_rejected(value: str, words: str | None) -> None:
    if words is None:
        assert asked(config_of({V: value})).devices[0] == "0"
    else:
        assert words in refused(config_of({V: value}))


def test_lists_that_are_too_long_together_are_rejected() -> None:
    """The limit is on the words of all sources together."""
    half, rest = (",".join(map(str, range(*each))) for each in ((0, 9000), (9000, 18_000)))
    settings = settings_of(swarm_resource=("A", "B"))
    assert "A, B lists more" in refused(config_of({"A": half, "B": rest}), settings)
    annotations = {"cdi.k8s.io/a": half, "cdi.k8s.io/b": rest}
    assert "lists more than 16384" in refused(config_of(annotations=annotations))
    mounts = [f"{DIRECTORY}/{number}" for number in range(18_000)]
    assert "lists more than 16384" in refused(config_of(mounts=mounts), MOUNTS)


@pytest.mark.parametrize(
    ("entries", "devices"),
    [
        # An image's ENV, and what dockerd adds for `--gpus device=1`; the last counts.
        ([f"{V}=all", f"{V}=1"], ("1",)),
        ([f"{V}=1", f"{V}=all"], ("all",)),
        ([f"{V}=0", f"{V}=0"], ("0",)),
        ([f"{V}=all", f"{V}=void"], ()),
        ([f"{V}=all", f"{V}="], ()),
        ([f"{V}=void", f"{V}=all"], ("all",)),
        ([f"{V}=rubbish!", f"{V}=0"], ("0",)),
        ([f"{V}=0", "A=1", f"{V}=1", "A=2", f"{V}=2"], ("2",)),
        (["CUDA_VERSION=9.0", "CUDA_VERSION="], ()),
        (["CUDA_VERSION=", "CUDA_VERSION=9.0"], ("all",)),
        (["CUDA_VERSION=9.0", "NVIDIA_REQUIRE_CUDA=", "NVIDIA_REQUIRE_CUDA=cuda>=9"], ()),
    ],
)
def test_last_entry_of_a_variable_counts(entries: list[str], devices: tuple[str, ...]) -> None:
    assert asked(config_of(entries)).devices == devices


def test_last_entry_of_each_variable_counts() -> None:
    """The first entry of each variable requests what the second does not."""
    first = {
        "NVIDIA_DRIVER_CAPABILITIES": ("all", "utility"),
        "NVIDIA_GDS": ("enabled", "disabled"),
        "NVIDIA_MOFED": ("disabled", "enabled"),
        "NVIDIA_GDRCOPY": ("rubbish", "enabled"),
        "NVIDIA_NVSWITCH": ("enabled", ""),
        "NVIDIA_IMEX_CHANNELS": ("1,2", "3"),
        "NVIDIA_MIG_CONFIG_DEVICES": ("all", ""),
        "NVIDIA_MIG_MONITOR_DEVICES": ("", "all"),
        V: ("0", "1"),
    }
    entries = [f"{name}={pair[which]}" for which in (0, 1) for name, pair in first.items()]
    request = asked(config_of(entries, capabilities=PRIVILEGED))
    assert (request.devices, request.capabilities) == (("1",), ("utility",))
    assert request.modes == ("mofed", "gdrcopy")
    assert request.imex_channels == (3,)
    assert (request.mig_config, request.mig_monitor) == (False, True)
    assert request.warnings == ()


def test_other_entries_of_the_environment_are_ignored() -> None:
    entries = ["A=1", "A=2", V, f"x{V}=all", f"{V}x=all", f"{V.lower()}=all", "=", ""]
    assert asked(config_of(entries)).devices == ()


@pytest.mark.parametrize(
    ("env", "devices"),
    [
        ({"CUDA_VERSION": "8.0"}, ("all",)),
        ({"CUDA_VERSION": "8.0", "NVIDIA_REQUIRE_CUDA": ""}, ("all",)),
        ({"CUDA_VERSION": "8.0", "NVIDIA_REQUIRE_CUDA": "cuda>=8"}, ()),
        ({"CUDA_VERSION": ""}, ()),
        ({"CUDA_VERSION": "8.0", V: ""}, ()),
        ({"CUDA_VERSION": "8.0", V: "void"}, ()),
        ({"CUDA_VERSION": "8.0", V: "1"}, ("1",)),
    ],
)
def test_legacy_image_requests_all_gpus(env: dict[str, str], devices: tuple[str, ...]) -> None:
    assert asked(config_of(env)).devices == devices


# Whose names the environment may hold.


@pytest.mark.parametrize(
    ("name", "capabilities", "words"),
    [
        ("vendor.com/device=x", None, "device of another vendor"),
        ("vendor.com/device=x", PRIVILEGED, "device of another vendor"),
        ("nvidia.com.evil.org/gpu=0", None, "device of another vendor"),
        ("NVIDIA.com/gpu=0", None, "device of another vendor"),
        ("k8s.device-plugin.nvidia.com/gpu=0", None, "device of another vendor"),
        # What a management container may do is more than any GPU gives.
        ("management.nvidia.com/gpu=all", None, "privileged containers (CAP_SYS_ADMIN)"),
        ("management.nvidia.com/gpu=all", UNPRIVILEGED, "privileged containers (CAP_SYS_ADMIN)"),
        ("management.nvidia.com/gpu=all", PRIVILEGED, None),
    ],
)
@pytest.mark.parametrize("beside", ["{}", "0,{}", "all,{}"])
def test_vendors_that_the_environment_may_request(
    name: str, capabilities: object, words: str | None, beside: str
) -> None:
    """nvidia-ctk: of any vendor."""
    config = config_of({V: beside.format(name)}, capabilities=capabilities)
    if words is None:
        assert asked(config).devices[-1] == name
    else:
        assert words in refused(config)


def test_vendor_of_the_default_kind_is_accepted() -> None:
    settings = settings_of(default_kind="vendor.com/gpu")
    assert asked(config_of({V: "vendor.com/nic=0"}), settings).devices == ("vendor.com/nic=0",)
    assert asked(config_of({V: "nvidia.com/gpu=0"}), settings).devices == ("nvidia.com/gpu=0",)


def test_annotations_and_mounts_accept_other_vendors() -> None:
    config = config_of(mounts=[f"{DIRECTORY}/cdi/vendor.com/device/x"])
    assert asked(config, MOUNTS).devices == ("vendor.com/device=x",)
    config = config_of(annotations={"cdi.k8s.io/x": "vendor.com/device=x"})
    assert asked(config).devices == ("vendor.com/device=x",)
