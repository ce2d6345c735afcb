# SPDX-License-Identifier: Apache-2.0
"""The rules by which installed specs are compared with the facts of a host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cdi_gen.cdi import wire
from cdi_gen.cdi.model import Device, DeviceNode, Spec
from cdi_gen.refresh.effective_specs import Conflict, EffectiveSpec, EffectiveSpecs
from cdi_gen.refresh.host_facts import Gpu, HostFacts, Instance, Node
from cdi_gen.refresh.staleness import differences

GOLDEN = Path(__file__).parents[3] / "specs/golden"
NVIDIA = Path(__file__).parents[2] / "parity/reference/nvidia_ctk"
FILE = "/etc/cdi/nvidia.json"
VERSION = "550.163.01"
GPU = Gpu(0, 0, "GPU-ab100000-c0de-4000-8000-000000001000", "0000:1b:00.0")
SECOND = Gpu(1, 1, "GPU-ab100001-c0de-4001-8001-000000001001", "0000:1e:00.0")
MAJORS = {"nvidia": 195, "nvidia-uvm": 510, "nvidia-caps": 234}


def effective(*specs: Spec) -> EffectiveSpecs:
    files = tuple(EffectiveSpec(FILE, spec, spec.devices) for spec in specs)
    return EffectiveSpecs(files, (), (), ())


def nvidia(name: str = "1gpu") -> Spec:
    """A spec that nvidia-ctk wrote."""
    return wire.load((NVIDIA / f"{name}.json").read_text())


def host_of(spec: Spec, *gpus: Gpu, driver_version: str | None = VERSION) -> HostFacts:
    """A host that has everything that a spec names."""
    file = EffectiveSpec(FILE, spec, spec.devices)
    nodes = {
        node.host_path or node.path: Node(node.major or 0, node.minor or 0)
        for edits in file.edits
        for node in edits.device_nodes
    }
    return HostFacts(
        driver_version=driver_version,
        gpus=gpus or (GPU,),
        instances=(),
        capability_minors=frozenset({1, 2}),
        majors=MAJORS,
        nodes=nodes,
        paths=frozenset({*file.host_paths} - {*nodes}),
    )


def messages(specs: EffectiveSpecs, host: HostFacts, *left_out: str) -> list[str]:
    return [f"{each.message} [{each.code}]" for each in differences(specs, host, left_out)]


def with_node(spec: Spec, old: str, **changes: object) -> Spec:
    """The spec with changes to the first node of this path."""

    def changed(nodes: tuple[DeviceNode, ...]) -> tuple[DeviceNode, ...]:
        return tuple(
            replace(node, **changes) if node.path == old else node  # type: ignore[arg-type]
            for node in nodes
        )

    common = spec.container_edits
    devices = tuple(
        replace(
            device,
            container_edits=replace(
                device.container_edits, device_nodes=changed(device.container_edits.device_nodes)
            ),
        )
        for device in spec.devices
    )
    return replace(
        spec,
        devices=devices,
        container_edits=replace(common, device_nodes=changed(common.device_nodes)),
    )


def test_specs_of_nvidia_of_this_host_are_fresh() -> None:
    for name, count in (("1gpu", 1), ("nohooks", 8), ("8gpu", 8), ("uuid-only", 8)):
        spec = nvidia(name)
        gpus = [
            Gpu(number, number, _uuid(number), f"0000:{0x1B + 3 * number:02x}:00.0")
            for number in range(count)
        ]
        assert messages(effective(spec), host_of(spec, *gpus)) == [], name


def _uuid(number: int) -> str:
    """The UUID of a GPU of the fake hosts."""
    return f"GPU-ab10000{number}-c0de-400{number}-800{number}-00000000100{number}"


def test_a_file_that_is_missing_is_named_once() -> None:
    spec = nvidia()
    host = host_of(spec)
    gone = f"/usr/lib/x86_64-linux-gnu/libcuda.so.{VERSION}"
    host = host._replace(paths=host.paths - {gone})
    assert messages(effective(spec), host) == [f"{FILE}: {gone} does not exist [CDG-V102]"]


def test_a_hook_program_that_is_missing() -> None:
    spec = nvidia()
    host = host_of(spec)
    host = host._replace(paths=host.paths - {"/usr/bin/nvidia-cdi-hook"})
    (line,) = messages(effective(spec), host)
    assert line == f"{FILE}: the hook program /usr/bin/nvidia-cdi-hook does not exist [CDG-V103]"


def test_libraries_of_another_driver_are_one_line() -> None:
    spec = nvidia()
    (line,) = messages(effective(spec), host_of(spec, driver_version="560.35.03"))
    assert "libraries are of driver 550.163.01, the loaded driver is 560.35.03 [CDG-V104]" in line


def test_a_spec_without_a_driver() -> None:
    spec = nvidia()
    host = host_of(spec, driver_version=None)
    assert messages(effective(spec), host) == [
        f"{FILE}: no NVIDIA driver is loaded on this host [CDG-V101]"
    ]


def test_a_node_with_the_number_of_another_boot() -> None:
    spec = with_node(nvidia(), "/dev/nvidia-uvm", type="c", major=511, minor=0)
    host = host_of(nvidia())._replace(
        nodes={**host_of(nvidia()).nodes, "/dev/nvidia-uvm": Node(510, 0)}
    )
    assert messages(effective(spec), host) == [
        f"{FILE}: /dev/nvidia-uvm has the number 511:0, on this host 510:0 [CDG-V106]"
    ]


def test_the_kernel_knows_better_than_a_node_of_another_boot() -> None:
    """cdi-gen writes the kernel's number; the node on the host is what is wrong."""
    spec = with_node(nvidia(), "/dev/nvidia-uvm", type="c", major=510, minor=0)
    host = host_of(spec)
    host = host._replace(nodes={**host.nodes, "/dev/nvidia-uvm": Node(509, 0)})
    assert messages(effective(spec), host) == []


def test_a_node_that_engines_can_create_may_be_missing() -> None:
    spec = with_node(nvidia(), "/dev/nvidia-uvm", type="c", major=510, minor=0)
    host = host_of(spec)
    nodes = {path: node for path, node in host.nodes.items() if path != "/dev/nvidia-uvm"}
    assert messages(effective(spec), host._replace(nodes=nodes)) == []
    # Without its number they cannot, and without its module the node would be of no use.
    bare = with_node(spec, "/dev/nvidia-uvm", type="", major=None, minor=None)
    missing = f"{FILE}: the device node /dev/nvidia-uvm does not exist"
    assert messages(effective(bare), host._replace(nodes=nodes)) == [f"{missing} [CDG-V105]"]
    no_module = host._replace(nodes=nodes, majors={"nvidia": 195})
    assert messages(effective(spec), no_module) == [
        f"{missing}, and no driver has its number [CDG-V105]"
    ]


def test_the_control_node_of_another_boot_has_the_major_of_the_kernel() -> None:
    """The node is missing on the host; engines create it with the numbers of the spec."""
    spec = with_node(nvidia(), "/dev/nvidiactl", type="c", major=195, minor=255)
    host = host_of(spec)
    nodes = {path: node for path, node in host.nodes.items() if path != "/dev/nvidiactl"}
    assert messages(effective(spec), host._replace(nodes=nodes)) == []
    other = with_node(spec, "/dev/nvidiactl", major=196)
    (line,) = messages(effective(other), host._replace(nodes=nodes))
    assert line == (
        f"{FILE}: /dev/nvidiactl has the number 196:255, on this host 195:255 [CDG-V106]"
    )


def test_a_broken_mig_device_that_was_left_out_is_no_difference() -> None:
    spec = nvidia("nohooks")
    gpus = [Gpu(n, n, _uuid(n), f"0000:0{n}:00.0") for n in range(8)]
    host = host_of(spec, *gpus)._replace(instances=(Instance(7, 1, 0, frozenset({5, 6})),))
    divided = [line for line in messages(effective(spec), host) if "V109" in line]
    assert len(divided) == 1
    left_out = messages(effective(spec), host, "MIG devices of GPU 7 at 0000:07:00.0")
    assert not [line for line in left_out if "V109" in line]


def test_the_device_none_is_not_looked_at() -> None:
    spec = nvidia()
    edits = spec.devices[0].container_edits
    gone = replace(
        edits, device_nodes=(DeviceNode(path="/dev/nvidia9", type="c", major=195, minor=9),)
    )
    spec = replace(spec, devices=(*spec.devices, Device(name="none", container_edits=gone)))
    assert messages(effective(spec), host_of(spec)) == []


def test_a_gpu_that_no_spec_gives() -> None:
    spec = nvidia()
    host = host_of(spec, GPU, SECOND)
    assert messages(effective(spec), host) == [
        f"no spec has a device for GPU 1 at 0000:1e:00.0 ({SECOND.uuid}) [CDG-V109]"
    ]
    assert messages(effective(spec), host, "GPU 1 at 0000:1e:00.0") == []


def test_no_spec_at_all_is_one_line() -> None:
    host = host_of(nvidia(), GPU, SECOND)
    line = "no spec has a device for the 2 GPUs of this host [CDG-V109]"
    assert messages(effective(), host) == [line]
    assert messages(effective(), host._replace(gpus=())) == []


def test_a_device_of_a_gpu_that_is_gone() -> None:
    spec = nvidia("8gpu")
    gpus = [Gpu(n, n, _uuid(n), f"0000:0{n}:00.0") for n in range(7)]
    lines = messages(effective(spec), host_of(spec, *gpus))
    gone = "this host has no GPU /dev/nvidia7 [CDG-V107]"
    assert f"{FILE}: nvidia.com/gpu=7: {gone}" in lines
    assert f"{FILE}: nvidia.com/gpu=all: {gone}" in lines


def test_gpus_in_another_order() -> None:
    spec = nvidia("8gpu")
    minors = (1, 0, 2, 3, 4, 5, 6, 7)
    gpus = [Gpu(n, minor, _uuid(n), f"0000:0{n}:00.0") for n, minor in enumerate(minors)]
    lines = messages(effective(spec), host_of(spec, *gpus))
    assert (
        f"{FILE}: nvidia.com/gpu=0 has /dev/nvidia0, but the GPU is /dev/nvidia1 [CDG-V108]"
        in lines
    )
    assert len(lines) == 4, "both by index and by UUID"


def test_another_gpu_in_the_same_place() -> None:
    spec = nvidia("uuid-only")
    gpus = [Gpu(n, n, _uuid(n), f"0000:0{n}:00.0") for n in range(7)]
    gpus.append(Gpu(7, 7, "GPU-0", "0000:07:00.0"))
    (line,) = messages(effective(spec), host_of(spec, *gpus))
    assert line.endswith("this host has no such GPU; the node is that of GPU-0 [CDG-V108]")


def test_another_mig_layout() -> None:
    """A device 1:0 of instance 7/0, while the host has instance 8/0."""
    nodes = tuple(
        DeviceNode(path=path, type="c", major=major, minor=minor)
        for path, major, minor in (
            ("/dev/nvidia0", 195, 0),
            ("/dev/nvidia-caps/nvidia-cap66", 234, 66),
            ("/dev/nvidia-caps/nvidia-cap67", 234, 67),
        )
    )
    edits = replace(nvidia().devices[0].container_edits, device_nodes=nodes, hooks=())
    spec = replace(nvidia(), devices=(Device(name="0:0", container_edits=edits),))
    host = host_of(spec)
    same = host._replace(
        instances=(Instance(0, 7, 0, frozenset({66, 67})),),
        capability_minors=frozenset({1, 2, 66, 67}),
    )
    assert messages(effective(spec), same) == []
    other = host._replace(
        instances=(Instance(0, 8, 0, frozenset({75, 76})),),
        capability_minors=frozenset({1, 2, 75, 76}),
    )
    assert messages(effective(spec), other) == [
        f"{FILE}: nvidia.com/gpu=0:0: this host has no MIG device with nvidia-cap66 [CDG-V107]",
        f"{FILE}: nvidia.com/gpu=0:0: this host has no MIG device with nvidia-cap67 [CDG-V107]",
        (
            "no spec has a device for the MIG device 8/0 (GPU instance/compute instance) of "
            "GPU 0 at 0000:1b:00.0 [CDG-V109]"
        ),
    ]
    whole = nvidia()
    lines = messages(effective(whole), other._replace(paths=host_of(whole).paths))
    assert (
        f"{FILE}: nvidia.com/gpu=0: the GPU /dev/nvidia0 is divided into MIG devices [CDG-V107]"
        in lines
    )


def test_conflicting_files_are_one_line() -> None:
    paths = ("/etc/cdi/a.json", "/etc/cdi/b.yaml")
    conflict = Conflict(paths, ("nvidia.com/gpu=0", "nvidia.com/gpu=all"))
    specs = EffectiveSpecs((), (conflict,), (), ())
    host = host_of(nvidia())._replace(gpus=())
    assert messages(specs, host) == [
        (
            "nvidia.com/gpu=0 and 1 others: engines cannot resolve a device that /etc/cdi/a.json and "
            "/etc/cdi/b.yaml define [CDG-F102]"
        )
    ]
