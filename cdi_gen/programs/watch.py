# SPDX-License-Identifier: Apache-2.0
"""The nodes and files of a host whose changes make the runtime shim's prepared specs out of date.

The catalogue lists the nodes and files that a host may have; an inventory may have further nodes.
"""

from __future__ import annotations

from collections.abc import Iterable

from cdi_base.host_fingerprint import Watch
from cdi_gen.catalogue import Catalogue
from cdi_gen.host.devices import nodes
from cdi_gen.inventory import Inventory
from cdi_gen.paths import join


def of_catalogue(catalogue: Catalogue) -> Watch:
    """The nodes of GPUs, driver and transports; the sockets of daemons; the files of transports."""
    names = [
        *nodes.OF_GPUS,
        *(node.name for node in catalogue.control_nodes),
        *(node.name for transport in catalogue.transports for node in transport.nodes),
    ]
    sockets = [
        join(directory, entry.name)
        for entry in catalogue.files
        if entry.kind == "socket"
        for directory in entry.under
    ]
    files = [path for transport in catalogue.transports for path in transport.files]
    return Watch(map(_in_dev, names), [*sockets, *files])


def with_inventory(watch: Watch, inventory: Inventory) -> Watch:
    """Add the nodes of an inventory, which the catalogue may not list."""
    names = (path.removeprefix("/dev/") for path in _nodes(inventory))
    patterns = (_pattern(name) for name in names if not name.startswith("/"))
    return Watch([*watch.nodes, *patterns], watch.files)


def _nodes(inventory: Inventory) -> Iterable[str]:
    yield from (node.path for gpu in inventory.gpus for node in (*gpu.nodes, *gpu.drm_nodes))
    for device in inventory.mig_devices:
        yield from (device.gpu_instance_cap.path, device.compute_instance_cap.path)
    yield from (node.path for node in (inventory.mig_config, inventory.mig_monitor) if node)
    yield from (node.path for node in (*inventory.control_nodes, *inventory.transport_nodes))


def _in_dev(name: str) -> str:
    """The name of a node directly in /dev, or its directory, in which all names are compared."""
    return name.partition("/")[0]


def _pattern(name: str) -> str:
    """The name with ``*`` for its number, or the directory of a node that is in one."""
    first, slash, _ = name.partition("/")
    stem = first.rstrip("0123456789")
    return f"{stem}*" if stem != first and not slash else first
