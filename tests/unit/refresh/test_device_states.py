# SPDX-License-Identifier: Apache-2.0
"""How many GPUs and MIG devices are in each state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cdi_gen.cdi.model import Device, Spec
from cdi_gen.refresh.device_states import count
from cdi_gen.refresh.effective_specs import EffectiveSpec
from cdi_gen.refresh.host_facts import Gpu, HostFacts, Instance, Node, capability_minor
from cdi_gen.store import registry as registries
from cdi_gen.store.registry import Registry, SpecFile
from tests.unit.refresh.test_staleness import MAJORS, VERSION, nvidia

MINORS = range(8)
GPUS = tuple(
    Gpu(
        minor,
        minor,
        f"GPU-ab10000{minor}-c0de-400{minor}-800{minor}-00000000100{minor}",
        f"{minor}",
    )
    for minor in MINORS
)


def registry_of(*files: tuple[str, Spec]) -> Registry:
    """Files of one directory."""
    return registries.assemble(
        ["/etc/cdi"], [tuple(SpecFile(path=path, spec=spec) for path, spec in files)]
    )


def host_of(spec: Spec, **changes: object) -> HostFacts:
    """A host with eight GPUs that has everything that a spec names."""
    file = EffectiveSpec("", spec, spec.devices)
    nodes = {
        node.path: Node(node.major or 0, node.minor or 0)
        for edits in file.edits
        for node in edits.device_nodes
    }
    facts = HostFacts(
        driver_version=VERSION,
        gpus=GPUS,
        instances=(),
        capability_minors=frozenset(),
        majors=MAJORS,
        nodes=nodes,
        paths=frozenset({*file.host_paths} - {*nodes}),
    )
    return facts._replace(**changes)  # type: ignore[arg-type]


def states(registry: Registry, host: HostFacts, *left_out: str) -> dict[str, int]:
    return {state: number for state, number in count(registry, host, left_out).items() if number}


def test_a_gpu_with_three_names_counts_once() -> None:
    spec = nvidia("8gpu")
    assert len(spec.devices) > 8
    assert states(registry_of(("a", spec)), host_of(spec)) == {"usable": 8}


def test_the_device_all_of_one_gpu_is_that_gpu() -> None:
    spec = nvidia("1gpu")
    assert states(registry_of(("a", spec)), host_of(spec, gpus=GPUS[:1])) == {"usable": 1}


def test_a_file_of_the_driver_that_is_gone_makes_all_devices_stale() -> None:
    spec = nvidia("8gpu")
    host = host_of(spec)
    library = next(path for path in host.paths if "libcuda.so" in path)
    lacking = host._replace(paths=host.paths - {library})
    assert states(registry_of(("a", spec)), lacking) == {"stale": 8}


def test_a_gpu_that_is_gone_is_stale_and_the_others_are_usable() -> None:
    spec = nvidia("8gpu")
    assert states(registry_of(("a", spec)), host_of(spec, gpus=GPUS[:7])) == {
        "usable": 7,
        "stale": 1,
    }


def test_devices_of_conflicting_files_are_conflicting_and_not_missing() -> None:
    spec = nvidia("8gpu")
    registry = registry_of(("a", spec), ("b", spec))
    assert states(registry, host_of(spec)) == {"conflicting": 8}


def test_a_device_with_a_name_that_engines_resolve_is_usable() -> None:
    spec = nvidia("8gpu")
    indices = tuple(device for device in spec.devices if device.name.isdecimal())
    registry = registry_of(("a", spec), ("b", replace(spec, devices=indices)))
    assert states(registry, host_of(spec)) == {"usable": 8}


def test_a_gpu_without_a_device_is_missing() -> None:
    spec = nvidia("8gpu")
    kept = tuple(
        device
        for device in spec.devices
        if all(node.path != "/dev/nvidia3" for node in device.container_edits.device_nodes)
    )
    registry = registry_of(("a", replace(spec, devices=kept)))
    assert states(registry, host_of(spec)) == {"usable": 7, "missing": 1}


def test_a_gpu_that_the_refresh_left_out_is_not_missing() -> None:
    spec = nvidia("8gpu")
    kept = tuple(
        device
        for device in spec.devices
        if all(node.path != "/dev/nvidia3" for node in device.container_edits.device_nodes)
    )
    registry = registry_of(("a", replace(spec, devices=kept)))
    assert states(registry, host_of(spec), "GPU 3 at 3") == {"usable": 7, "left-out": 1}


def test_without_specs_all_gpus_are_missing() -> None:
    assert states(registry_of(), host_of(nvidia("8gpu"))) == {"missing": 8}


def test_without_a_driver_no_gpu_is_missing_and_the_specs_are_stale() -> None:
    spec = nvidia("8gpu")
    host = host_of(spec, driver_version=None, gpus=())
    assert states(registry_of(("a", spec)), host) == {"stale": 8}


def test_mig_devices_count_by_their_capability_nodes() -> None:
    spec = nvidia("mig")
    pairs = {
        minors
        for device in spec.devices
        if len(minors := frozenset(capability_minors(device))) == 2
    }
    host = host_of(
        spec,
        capability_minors=frozenset().union(*pairs),
        instances=tuple(Instance(0, min(pair), max(pair), pair) for pair in pairs),
    )
    assert states(registry_of(("a", spec)), host) == {"usable": 56}
    gone = host._replace(capability_minors=host.capability_minors - {max(map(max, pairs))})
    assert states(registry_of(("a", spec)), gone) == {"usable": 55, "stale": 1}


def capability_minors(device: Device) -> Iterator[int]:
    for node in device.container_edits.device_nodes:
        minor = capability_minor(node.path)
        if minor is not None:
            yield minor
