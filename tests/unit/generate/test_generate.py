# SPDX-License-Identifier: Apache-2.0
"""What the options do to a spec, on the inventory of a golden host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cdi_gen.catalogue import catalogue
from cdi_gen.cdi.model import ContainerEdits, Spec
from cdi_gen.errors import CdiGenError, ExitCode, NoDriverError, UsageError
from cdi_gen.generate import generate, generate_capabilities
from cdi_gen.generate.options import Options
from cdi_gen.inventory import Inventory, UnusableDevice
from cdi_gen.paths import HostPath, base_name

Golden = Callable[[str], Inventory]


def names(spec: Spec) -> list[str]:
    return [device.name for device in spec.devices]


def stems(edits: ContainerEdits) -> set[str]:
    return {base_name(mount.host_path).partition(".so")[0] for mount in edits.mounts}


def nodes(edits: ContainerEdits) -> set[str]:
    return {node.path for node in edits.device_nodes}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Options(names=("index",)), ["0", "1:0", "1:1", "1:2", "1:3", "all", "none"]),
        (
            Options(names=("type-index",), all_device=False),
            ["gpu0", "mig1:0", "mig1:1", "mig1:2", "mig1:3"],
        ),
        (Options(names=("pci",)), ["pci-0000-1b-00-0", "all", "none"]),
        (Options(names=("index",), devices=("1:2",), all_device=False), ["1:2"]),
        (Options(names=("index",), devices=("gpu0", "0", "0"), all_device=False), ["0"]),
        (Options(names=("index",), devices=("none", "0")), ["none"]),
        # A GPU that is divided stands for its parts, by each of its names.
        (
            Options(names=("index",), devices=("1",), all_device=False),
            ["1:0", "1:1", "1:2", "1:3"],
        ),
        (
            Options(names=("index",), devices=("pci-0000-1e-00-0", "0"), all_device=False),
            ["0", "1:0", "1:1", "1:2", "1:3"],
        ),
    ],
)
def test_names_and_devices(golden: Golden, options: Options, expected: list[str]) -> None:
    """A device may be asked for by any of its names, written or not, and more than once."""
    assert names(generate(golden("flat-550-mig-mixed"), options)) == expected


def test_all_is_made_of_the_devices_that_were_asked_for(golden: Golden) -> None:
    spec = generate(golden("debian-trixie-550-8gpu"), Options(devices=("2", "5")))
    edits = {device.name: device.container_edits for device in spec.devices}
    assert {"/dev/nvidia2", "/dev/nvidia5"} <= nodes(edits["all"])
    assert "/dev/nvidia0" not in nodes(edits["all"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (Options(devices=("8",)), UsageError, "this host has no device 8"),
        (Options(devices=("1:4",)), UsageError, "this host has no device 1:4"),
        (Options(devices=("2",)), UsageError, "the GPU 2 has MIG enabled and no MIG device"),
        (Options(capabilities=("computer",)), UsageError, "unknown driver capability"),
        (Options(vendor="nvidia/com"), UsageError, "vendor"),
        (Options(vendor="n"), UsageError, "single letter"),
        (Options(class_=""), UsageError, "class"),
        (Options(devices=()), UsageError, "no device is requested"),
        (Options(names=(), all_device=False), UsageError, "no device has a name"),
        (Options(newest_version="0.3.0"), CdiGenError, "supports CDI 0.3.0 at most"),
    ],
)
def test_what_can_not_be(
    golden: Golden, options: Options, error: type[CdiGenError], message: str
) -> None:
    with pytest.raises(error, match=message):
        generate(golden("flat-550-mig-mixed"), options)


def test_names_without_digits_first_need_no_new_version(golden: Golden) -> None:
    """No newer one than the type of a mount, which every engine with CDI reads."""
    options = Options(names=("type-index",), newest_version="0.4.0")
    assert generate(golden("server-550-4gpu-headless"), options).cdi_version == "0.4.0"


@pytest.mark.parametrize(
    ("wanted", "there", "not_there"),
    [
        (("compute",), {"libcuda", "libnvidia-ptxjitcompiler"}, {"libnvidia-ml", "libGLX_nvidia"}),
        (("utility",), {"libnvidia-ml"}, {"libcuda", "libnvidia-encode", "libGLX_nvidia"}),
        (("video",), {"libnvidia-encode", "libnvcuvid", "libcuda"}, {"libGLX_nvidia"}),
        (("graphics",), {"libGLX_nvidia", "libnvidia-glcore"}, {"libcuda", "libnvidia-encode"}),
        (("display",), {"libGLX_nvidia", "nvidia_drv"}, {"libcuda"}),
        (("all",), {"libcuda", "libnvidia-ml", "libGLX_nvidia", "libnvidia-ngx"}, set()),
    ],
)
def test_capabilities_choose_libraries(
    golden: Golden, wanted: tuple[str, ...], there: set[str], not_there: set[str]
) -> None:
    spec = generate(golden("flat-550-1gpu"), Options(capabilities=wanted))
    assert there <= stems(spec.container_edits)
    assert not not_there & stems(spec.container_edits)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("compute",), {"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"}),
        (("utility",), {"/dev/nvidiactl"}),
        (("graphics",), {"/dev/nvidiactl", "/dev/nvidia-modeset"}),
    ],
)
def test_capabilities_choose_control_nodes(
    golden: Golden, wanted: tuple[str, ...], expected: set[str]
) -> None:
    spec = generate(golden("flat-550-1gpu"), Options(capabilities=wanted))
    assert nodes(spec.container_edits) == expected


def test_a_library_that_nobody_listed_is_part_of_everything(golden: Golden) -> None:
    inventory = golden("flat-550-1gpu")
    new = replace(
        next(each for each in inventory.libraries if "libcuda.so" in each.path and each.bits == 64),
        path=HostPath("/usr/lib/x86_64-linux-gnu/libnvidia-new.so.550.163.01"),
        soname="libnvidia-new.so.1",
        links=(),
        aliases=(),
        needed=(),
    )
    changed = replace(inventory, libraries=(*inventory.libraries, new))
    assert "libnvidia-new" in stems(generate(changed).container_edits)
    lean = generate(changed, Options(capabilities=("compute",)))
    assert "libnvidia-new" not in stems(lean.container_edits)


def test_capability_devices_add_up_to_the_whole_driver(golden: Golden) -> None:
    """Every capability together is what a default spec mounts, and the 32-bit libraries."""
    inventory = golden("debian-trixie-550-8gpu")
    devices = generate_capabilities(inventory, Options(class_="cap")).devices
    together = {mount for device in devices for mount in device.container_edits.mounts}
    whole = set(generate(inventory).container_edits.mounts)
    assert whole <= together
    assert all("i386" in mount.host_path for mount in together - whole)
    assert {device.name for device in devices} <= {each.name for each in catalogue().capabilities}


@pytest.mark.parametrize("name", ["flat-550-1gpu", "nixos-550-1gpu", "gpu-operator-550-2gpu"])
def test_without_a_hook_every_soname_is_there(golden: Golden, name: str) -> None:
    """In a directory of every common loader, for it finds nothing by any other name."""
    inventory = golden(name)
    places = {
        mount.container_path: mount.host_path
        for mount in generate(inventory, Options(hooks=False)).container_edits.mounts
    }
    for library in inventory.libraries:
        if library.bits == 64:
            for directory in ("/usr/lib64", "/usr/lib"):
                assert places[f"{directory}/{library.soname}"] == library.path


def test_groups_only_where_they_are_asked_for(golden: Golden) -> None:
    inventory = golden("flat-550-1gpu")
    assert not any(each.container_edits.additional_gids for each in generate(inventory).devices)
    spec = generate(inventory, Options(additional_gids=True))
    assert spec.cdi_version == "0.7.0"
    assert {each.container_edits.additional_gids for each in spec.devices} == {(44, 992), ()}


def test_mig_devices_get_drm_nodes_for_graphics_only(golden: Golden) -> None:
    inventory = golden("flat-550-mig-mixed")
    plain = {each.name: nodes(each.container_edits) for each in generate(inventory).devices}
    assert not [path for path in plain["1:0"] if "dri" in path]
    changed = replace(inventory.mig_devices[0], profile="1g.24gb+gfx")
    inventory = replace(inventory, mig_devices=(changed, *inventory.mig_devices[1:]))
    graphics = {each.name: nodes(each.container_edits) for each in generate(inventory).devices}
    assert [path for path in graphics["1:0"] if "renderD" in path]


@pytest.mark.parametrize(
    ("gpus", "message"),
    [((), "it controls no GPU"), (None, "every GPU of this host has MIG enabled")],
)
def test_no_device(golden: Golden, gpus: tuple[()] | None, message: str) -> None:
    inventory = golden("flat-550-mig-mixed")
    found = inventory.gpus[1:] if gpus is None else gpus
    with pytest.raises(NoDriverError, match=message):
        generate(replace(inventory, gpus=found, mig_devices=(), unusable_devices=()))


def test_no_device_that_can_be_used(golden: Golden) -> None:
    """The reason is that of the first that is broken: one that is only empty is not."""
    inventory = golden("flat-550-mig-mixed")
    broken = UnusableDevice(device="GPU 0 at 0000:1b:00.0", reason="GPU is lost", code="CDG-H105")
    changed = replace(
        inventory,
        gpus=inventory.gpus[2:],
        mig_devices=(),
        unusable_devices=(*inventory.unusable_devices, broken),
    )
    with pytest.raises(CdiGenError, match=r"no GPU of this host can be used: GPU 0 .*: GPU is lo"):
        generate(changed)


def test_nothing_of_the_driver(golden: Golden) -> None:
    empty = replace(golden("flat-550-1gpu"), libraries=(), files=())
    with pytest.raises(CdiGenError) as caught:
        generate_capabilities(empty, Options(class_="cap"))
    assert caught.value.exit_code is ExitCode.ERROR


def test_without_a_hook_the_libraries_go_where_they_are_wanted(golden: Golden) -> None:
    inventory = golden("flat-550-1gpu")
    both = generate(inventory, Options(hooks=False))
    one = generate(inventory, Options(hooks=False, library_directories=("/opt/lib",)))
    places = {mount.container_path for mount in one.container_edits.mounts}
    assert "/opt/lib/libcuda.so.1" in places
    assert not {each for each in places if each.startswith(("/usr/lib/lib", "/usr/lib64/lib"))}
    assert len(one.container_edits.mounts) < len(both.container_edits.mounts) * 2 / 3
    assert "NVIDIA_CTK_LIBCUDA_DIR=/opt/lib" in one.container_edits.env


@pytest.mark.parametrize("directories", [(), ("lib",), ("/usr/../lib",), ("/usr/lib/",)])
def test_directories_of_the_container_are_plain_paths(
    golden: Golden, directories: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError):
        generate(golden("flat-550-1gpu"), Options(hooks=False, library_directories=directories))
