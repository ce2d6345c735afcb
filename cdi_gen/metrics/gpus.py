# SPDX-License-Identifier: Apache-2.0
"""Knows the GPUs and MIG devices of the host and their device nodes.

The nodes come from procfs and /dev, all else from the pass over NVML that was made anyway: NVML is
not asked again, because a GPU that hangs would stop the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cdi_base import host_fingerprint
from cdi_base.host_fingerprint import Choices, Layout, Watch
from cdi_gen.errors import CdiGenError
from cdi_gen.host import Where, gather
from cdi_gen.host.mig_nodes import Instance, mig_nodes
from cdi_gen.inventory import CharDevice, Gpu, Inventory, MigDevice
from cdi_gen.telemetry.model import GpuReading, MigReading, Reading

_WATCH = Watch(
    nodes=(
        "nvidia*",
        "nvidiactl",
        "nvidia-uvm",
        "nvidia-uvm-tools",
        "nvidia-modeset",
        "nvidia-caps",
    )
)


class Gpus:
    """The GPUs of a host, searched for again only when the host has changed."""

    def __init__(self, where: Where) -> None:
        self._where = where._replace(transports=False, nvml=False)
        self._choices = Choices(
            layout=Layout(where.driver_root, where.dev_root or "", ()), watch=_WATCH
        )
        self._key: object = None
        self._inventory: Inventory | None = None
        self.fault = ""
        """Why the GPUs are not known; empty if they are."""

    def inventory(self, reading: Reading) -> Inventory | None:
        """Return the GPUs and MIG devices with their nodes; None if they are not known."""
        prefix = self._where.host_root.rstrip("/")
        key = (host_fingerprint.key(self._choices, prefix), _topology(reading))
        if self._inventory is None or key != self._key:
            self._key = key
            try:
                nodes = mig_nodes(self._where) if any(gpu.mig for gpu in reading.gpus) else {}
                self._inventory = completed(gather(self._where), reading, nodes)
                self.fault = ""
            except CdiGenError as error:
                self._inventory = None
                self.fault = error.message
        return self._inventory


def completed(
    inventory: Inventory, reading: Reading, nodes: Mapping[Instance, CharDevice]
) -> Inventory:
    """Return an inventory of procfs with NVML's indices, UUIDs and MIG devices; pure.

    Args:
        inventory: of a host whose NVML was not asked.
        reading: NVML's answers.
        nodes: of GPU instances and compute instances.
    """
    readings = {gpu.pci_address: gpu for gpu in reading.gpus}
    gpus, devices = [], []
    for gpu in inventory.gpus:
        answer = readings.get(gpu.pci_address or "")
        if answer is None:
            gpus.append(gpu)
            continue
        number = int(answer.index) if answer.index.isdecimal() else gpu.index
        gpus.append(
            replace(
                gpu,
                index=number,
                uuid=answer.uuid or gpu.uuid,
                mig_enabled=gpu.mig_enabled or answer.mig_enabled,
            )
        )
        devices += [
            device for mig in answer.mig if (device := _mig(gpu, number, mig, nodes)) is not None
        ]
    return replace(inventory, gpus=tuple(gpus), mig_devices=tuple(devices))


def _mig(
    gpu: Gpu, gpu_index: int, mig: MigReading, nodes: Mapping[Instance, CharDevice]
) -> MigDevice | None:
    if gpu.minor is None:
        return None
    gpu_instance = nodes.get((gpu.minor, mig.gpu_instance, None))
    compute_instance = nodes.get((gpu.minor, mig.gpu_instance, mig.compute_instance))
    if gpu_instance is None or compute_instance is None:
        return None
    return MigDevice(
        gpu_index=gpu_index,
        index=int(mig.index.partition(":")[2]),
        uuid=mig.uuid,
        gpu_instance=mig.gpu_instance,
        compute_instance=mig.compute_instance,
        profile=mig.profile,
        gpu_instance_cap=gpu_instance,
        compute_instance_cap=compute_instance,
    )


def _topology(reading: Reading) -> tuple[object, ...]:
    """Return which devices there are, which a change of the host's files may not show."""

    def of_mig(mig: MigReading) -> tuple[object, ...]:
        return mig.index, mig.uuid, mig.profile, mig.gpu_instance, mig.compute_instance

    def of_gpu(gpu: GpuReading) -> tuple[object, ...]:
        return gpu.pci_address, gpu.index, gpu.uuid, gpu.mig_enabled, tuple(map(of_mig, gpu.mig))

    return tuple(map(of_gpu, reading.gpus))
