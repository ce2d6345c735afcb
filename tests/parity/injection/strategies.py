# SPDX-License-Identifier: Apache-2.0
"""Specs, configurations and requests that meet: few names, so that everything collides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from cdi_base.cdi.injection import HOOK_NAMES
from cdi_gen.cdi.document import to_document
from cdi_gen.cdi.model import (
    ContainerEdits,
    Device,
    DeviceNode,
    Hook,
    IntelRdt,
    Mount,
    NetDevice,
    Spec,
)
from cdi_gen.cdi.versions import KNOWN_VERSIONS, minimum_version
from tests.parity.injection.nodes import NODES, OTHERS
from tests.property.strategies import some

one_of = st.sampled_from
texts = one_of(("", "a", "é", "a b", "=", "x=y", '"', "\\", "\t"))
variables = st.builds("{}={}".format, one_of(("A", "B", "PATH", "A.b", "é")), texts)
numbers = one_of((0, 1, 3, 195, 4095))
ids = one_of((0, 1, 44, 1000, 2**32 - 1))
modes = one_of((0, 0o600, 0o666, 0o4755))
node_paths = one_of((*NODES, *OTHERS))
places = one_of(
    [
        "/",
        "/a",
        "/a/b",
        "/a/b/",
        "//a//b",
        "/a/./b/../c",
        "/../a",
        "/b",
        "/b/c/d",
        "a",
        "a/b",
        "../a",
        "a/../..",
        ".",
        "/a-b/c",
        "/etc/é",
    ]
)
options = some(one_of(("ro", "bind", "rbind", "idmap", "ridmap", "nosuid", "")), 4)


def optional(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | values


def node(path: st.SearchStrategy, types: tuple[str, ...], major: st.SearchStrategy) -> Any:
    return st.builds(
        DeviceNode,
        path=path,
        host_path=st.just("") | path,
        type=one_of(types),
        major=major,
        minor=optional(numbers),
        file_mode=optional(modes),
        permissions=one_of(("", "r", "rw", "mr", "none")),
        uid=optional(ids),
        gid=optional(ids),
    )


complete = node(node_paths, ("b", "c", "u", "p"), one_of((1, 195)))
of_the_host = node(one_of(("/nodes/char", "/nodes/block", "/nodes/fifo")), ("",), optional(numbers))
any_node = node(node_paths, ("", "b", "c", "u", "p"), optional(numbers))
device_nodes = one_of((complete, of_the_host, any_node)).flatmap(lambda chosen: chosen)
net_devices = st.lists(
    st.builds(NetDevice, host_interface_name=one_of(("eth0", "eth1")), name=one_of(("e", "f"))),
    max_size=2,
).map(tuple)
hooks = st.builds(
    Hook,
    hook_name=one_of(HOOK_NAMES),
    path=one_of(("/bin/a", "/bin/b")),
    args=some(texts),
    env=some(variables),
    timeout=optional(one_of((-1, 0, 30))),
)
mounts = st.builds(
    Mount,
    host_path=one_of(("/host", "/host/é", "tmpfs")),
    container_path=places,
    options=options,
    type=one_of(("", "", "bind", "tmpfs")),
)
intel_rdts = st.builds(
    IntelRdt,
    clos_id=one_of(("", "a", "/")),
    l3_cache_schema=one_of(("", "L3:0=1")),
    mem_bw_schema=one_of(("", "MB:0=2")),
    schemata=some(texts, 2),
    enable_monitoring=st.booleans(),
)


edits = st.builds(
    ContainerEdits,
    env=some(variables, 2),
    device_nodes=some(device_nodes, 2),
    net_devices=st.just(()) | net_devices,
    hooks=st.just(()) | some(hooks, 2),
    mounts=some(mounts, 3),
    intel_rdt=st.none() | intel_rdts,
    additional_gids=st.just(()) | some(ids, 2),
)
devices = st.builds(Device, name=one_of(("0", "1", "all")), container_edits=edits.filter(bool))
kinds = one_of(("v.com/a", "v.com/b", "v.com/c", "w.org/a"))
specs = st.builds(
    Spec,
    cdi_version=st.just("0.3.0"),
    kind=kinds,
    devices=st.lists(devices, min_size=1, max_size=3, unique_by=lambda device: device.name).map(
        tuple
    ),
    container_edits=edits,
).map(lambda spec: replace(spec, cdi_version=minimum_version(spec)))


@st.composite
def _broken(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    """One value of a document is another, of any type.

    No null is put into a list: of texts the library drops it, of nodes it crashes over it.
    """
    place: Any = document
    while place:
        key = draw(one_of([*place] if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or draw(one_of((True, False, False))):
            others: tuple[Any, ...] = ("", "a", "=", -1, 3, 2**64, True, [], {}, ["a"], [{}], None)
            place[key] = draw(one_of(others[:-1] if isinstance(place, list) else others))
            break
        place = place[key]
    return document


documents = specs.map(to_document)
any_documents = one_of(
    (documents,) * 12
    + (
        documents.flatmap(_broken),
        st.builds(lambda d, v: d | {"cdiVersion": v}, documents, one_of(KNOWN_VERSIONS)),
    )
).flatmap(lambda chosen: chosen)


def section(**fields: st.SearchStrategy) -> st.SearchStrategy:
    """An object each of whose fields may be absent or null; and one that nobody knows."""
    optional_ = {key: optional(value) for key, value in fields.items()}
    return st.fixed_dictionaries({}, optional=optional_ | {"x.unknown": st.just([1, {"a": None}])})


users = st.fixed_dictionaries(
    {"uid": ids, "gid": ids},
    optional={"additionalGids": optional(st.lists(ids, max_size=2)), "umask": st.just(18)},
)
oci_hooks = st.lists(st.fixed_dictionaries({"path": one_of(("/bin/a", "/bin/c"))}), max_size=2)
oci_mounts = st.lists(
    st.fixed_dictionaries(
        {"destination": places}, optional={"source": st.just("/x"), "options": st.just(["ro"])}
    ),
    max_size=5,
)
oci_devices = st.lists(
    st.fixed_dictionaries(
        {"path": node_paths, "type": st.just("c"), "major": numbers, "minor": numbers},
        optional={"uid": ids, "fileMode": modes},
    ),
    max_size=4,
)
rules = st.lists(
    st.fixed_dictionaries({"allow": st.booleans()}, optional={"access": st.just("rwm")}), max_size=2
)
namespaces = st.lists(
    one_of(({"type": "pid"}, {"type": "user"}, {"type": "mount", "path": "/p"})), max_size=2
)
configs = st.builds(
    lambda config: {"ociVersion": "1.2.0"} | config,
    section(
        process=section(
            user=users,
            env=st.lists(variables | one_of(("A", "", "=")), max_size=4),
            cwd=st.just("/"),
            args=st.just(["sh"]),
        ),
        root=st.just({"path": "rootfs", "readonly": True}),
        hostname=texts,
        mounts=oci_mounts,
        hooks=section(**dict.fromkeys(HOOK_NAMES, oci_hooks)),
        annotations=st.just({"a": "b"}),
        linux=section(
            devices=oci_devices,
            resources=section(devices=rules, memory=st.just({"limit": 2**40})),
            namespaces=namespaces,
            netDevices=st.just({"eth0": {"name": "old"}}),
            intelRdt=st.just({"closID": "old", "l3CacheSchema": "old"}),
            maskedPaths=st.just(["/proc/kcore"]),
        ),
    ),
)


@st.composite
def questions(draw: st.DrawFn) -> list[dict[str, Any]]:
    """What `Reference.ask` takes: several requests of one configuration; most devices are there."""
    directories = draw(
        st.lists(st.lists(any_documents, min_size=1, max_size=2), min_size=1, max_size=2)
    )
    config = draw(configs)
    names = [
        f"{document.get('kind')}={device.get('name')}"
        for documents in directories
        for document in documents
        if isinstance(document.get("devices"), list)
        for device in document["devices"]
        if isinstance(device, dict)
    ]
    asked = st.lists(one_of(names * 20 + ["v.com/a=0", "v.com/a", ""]), min_size=1, max_size=4)
    requests = [draw(asked), draw(asked), list(dict.fromkeys(names)), []]
    return [
        {"directories": directories, "config": config, "devices": devices} for devices in requests
    ]
