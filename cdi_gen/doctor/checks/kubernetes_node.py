# SPDX-License-Identifier: Apache-2.0
"""The node's part of Kubernetes: the kubelet, device plugins, and what pods can get."""

from __future__ import annotations

from collections.abc import Iterator

from cdi_base.findings import Finding
from cdi_gen.doctor import kubelet
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.errors import CdiGenError
from cdi_gen.inventory import Inventory
from cdi_gen.paths import join

VENDOR = "nvidia.com/"
GPU = "nvidia.com/gpu"
ENGINES = ("containerd", "crio")
SHARED = "::"
"""Between the UUID and the number of a replica, in the id of a shared device."""
RESTART = (
    "kubectl delete pod -A --field-selector spec.nodeName=$(hostname) -l "
    "'app.kubernetes.io/name in (cdi-gen, nvidia-device-plugin)'"
)


def examine_kubelet(host: Host) -> Iterator[Finding]:
    """Yield that the kubelet does not run, or that no device plugin does."""
    directory = kubelet.directory(host)
    if not host.exists(join(directory, "kubelet.sock")):
        yield Finding(
            "CDG-A264",
            "error",
            f"{directory} has no kubelet.sock: the kubelet does not run",
            subject=directory,
            fix="sudo systemctl restart kubelet  # see why it ended with: journalctl -b -u kubelet",
        )
        return
    names = kubelet.sockets(host)
    if host.pci_gpus and not names:
        yield Finding(
            "CDG-A261",
            "error",
            f"{directory} has no socket of a device plugin: the node offers no GPU to pods",
            subject=directory,
            fix="helm install cdi-gen deploy/helm/cdi-gen -n cdi-gen --create-namespace  # or see "
            "why the pod of the installed one does not run: kubectl get pods -A -o wide | grep -i "
            "device-plugin",
        )
    of_gpu = [name for name in names if "gpu" in name and "nvidia" in name]
    if len(of_gpu) > 1:
        yield Finding(
            "CDG-N114",
            "warning",
            f"{directory} has {' and '.join(of_gpu)}: two device plugins offer the same GPUs",
            subject=directory,
            fix="kubectl get daemonsets -A | grep -i device-plugin  # and delete one of the two",
        )


def examine_devices(host: Host) -> Iterator[Finding]:
    """Yield the GPUs that the kubelet does not offer, because the plugin calls them unhealthy."""
    checkpoint = kubelet.checkpoint(host)
    known = {
        resource: ids
        for resource, ids in checkpoint.registered.items()
        if resource.startswith(VENDOR)
    }
    if not known:
        raise NotApplicable("no device plugin of NVIDIA devices is registered")
    offered = {device.partition(SHARED)[0] for ids in known.values() for device in ids}
    missing = _missing(_inventory(host), offered)
    if missing:
        yield Finding(
            "CDG-A260",
            "error",
            f"the kubelet offers {len(offered)} devices; {', '.join(missing[:4])}"
            f"{f' and {len(missing) - 4} others' if len(missing) > 4 else ''} of this host "
            f"{'is' if len(missing) == 1 else 'are'} not among them: the device plugin calls them "
            "unhealthy, and NVIDIA's does so until it is restarted",
            subject=GPU,
            fix=f"{RESTART}  # the cause is in: sudo cdi-gen doctor driver",
        )
    for resource, ids in sorted(known.items()):
        if not ids:
            yield Finding(
                "CDG-A260",
                "error",
                f"the kubelet knows the resource {resource}, and no device of it is healthy",
                subject=resource,
                fix=RESTART,
            )


def _inventory(host: Host) -> Inventory | None:
    try:
        return host.inventory
    except CdiGenError:
        return None  # other checks report it


def _missing(inventory: Inventory | None, offered: set[str]) -> list[str]:
    """Return the GPUs and MIG devices of the host that are not offered, if ids are UUIDs."""
    if inventory is None or not any(device.startswith(("GPU-", "MIG-")) for device in offered):
        return []
    divided = {device.gpu_index for device in inventory.mig_devices}
    uuids = [gpu.uuid for gpu in inventory.gpus if not gpu.mig_enabled and gpu.index not in divided]
    uuids += [device.uuid for device in inventory.mig_devices]
    return [uuid for uuid in uuids if uuid and uuid not in offered]


def examine_strategies(host: Host) -> Iterator[Finding]:
    """Yield that containers get their devices twice: by annotation and by the CRI's field."""
    checkpoint = kubelet.checkpoint(host)
    if not checkpoint.allocations:
        raise NotApplicable("no container has a device")
    twice = {
        allocation.resource
        for allocation in checkpoint.allocations
        if allocation.by_annotation and allocation.by_field
    }
    for resource in sorted(twice):
        yield Finding(
            "CDG-A262",
            "warning",
            f"the device plugin of {resource} gives CDI devices by annotation and by the CRI's "
            "field: an engine that reads both injects them twice",
            subject=resource,
            fix="helm upgrade RELEASE CHART --reuse-values --set deviceListStrategy=cdi-cri  # or "
            "the option --device-list-strategy=cdi-cri of the device plugin",
        )


def examine_handlers(host: Host) -> Iterator[Finding]:
    """Yield that the engine can neither apply CDI devices nor start NVIDIA's runtime."""
    kubelet.directory(host)
    statuses = [status for status in host.engines if status.engine in ENGINES]
    if not statuses:
        raise NotApplicable("the kubelet's engine is not containerd in PATH or CRI-O")
    for status in statuses:
        names = [name for name, _ in status.runtimes]
        if not names and status.cdi in {"off", "no"}:
            yield Finding(
                "CDG-A263",
                "error",
                f"{status.engine} {status.version or ''} has neither CDI devices nor a handler of "
                'NVIDIA\'s runtime: a pod gets a GPU in no way ("no runtime for \\"nvidia\\" is '
                'configured")',
                subject=status.engine,
                fix=f"sudo cdi-gen engine configure {status.engine} --runtime && sudo systemctl "
                f"restart {status.engine}",
            )
        elif names:
            message = f"{status.engine} has the handlers {', '.join(names)}"
            yield Finding("CDG-A263", "info", message, subject=status.engine)


CHECKS = (
    Check("kubelet", "kubernetes", "the kubelet and a device plugin run", examine_kubelet),
    Check(
        "node-devices", "kubernetes", "the kubelet offers every GPU of the host", examine_devices
    ),
    Check("device-strategies", "kubernetes", "containers get each device once", examine_strategies),
    Check("runtime-handlers", "kubernetes", "the engine can give GPUs to pods", examine_handlers),
)
