# SPDX-License-Identifier: Apache-2.0
"""Finds GPUs and MIG devices by procfs and sysfs, and by NVML if these do not have all facts.

A device that cannot be used is left out and recorded; the others are not affected.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from cdi_base import trust
from cdi_gen.host import boot
from cdi_gen.host.devices import proc
from cdi_gen.host.devices.nodes import DeviceNodes
from cdi_gen.host.result import SearchResult
from cdi_gen.host.roots import Root
from cdi_gen.inventory import CharDevice, Gpu, Ignored, MigDevice, Missing, Record, UnusableDevice

if TYPE_CHECKING:
    from cdi_gen.host.devices.nvml import MigInstance, NvmlGpu

NEVER_DIVIDED = re.compile(r"\b(?:GeForce|TITAN|Quadro|Tesla|NVS)\b", re.IGNORECASE)
"""Words in the names of models without MIG: models before Ampere, and consumer GPUs. The kernel
module has a directory for MIG devices for every GPU, so the directory does not show MIG support."""

NO_MIG_DEVICE = (
    "MIG is enabled, but the GPU has no MIG device; create one with: nvidia-smi mig -cgi PROFILE -C"
)


class NvmlFault(NamedTuple):
    """Why NVML did not answer, or not completely."""

    reason: str
    code: str = "CDG-H208"


class Gpus(NamedTuple):
    """The GPUs and MIG devices of a host."""

    gpus: tuple[Gpu, ...] = ()
    mig_devices: tuple[MigDevice, ...] = ()


Described = dict[int, proc.GpuInformation]
"""The facts of procfs about each GPU, by index."""


class GpuSearch:
    """Searches for the GPUs of the kernel module and for their MIG devices."""

    def __init__(
        self,
        kernel: Root,
        nodes: DeviceNodes,
        nvml_library: str | None,
        *,
        requirement_facts: bool = False,
    ) -> None:
        self._kernel = kernel
        self._requirement_facts = requirement_facts
        self._nodes = nodes
        self._nvml_library = nvml_library
        self._capabilities = proc.mig_capabilities(kernel)

    def find(self) -> SearchResult[Gpus]:
        """Return every GPU and MIG device that a container can get."""
        procfs = self._procfs()
        usable = self._with_nodes(procfs.values)
        incomplete = self._incomplete(usable.values)
        addresses = {
            gpu.pci_address: self._requirement_facts or gpu.uuid is None or self._is_divided(gpu)
            for index, gpu in usable.values.items()
            if index in incomplete or self._requirement_facts
        }
        answers, fault = self._ask_nvml(addresses)
        records = [*procfs.records, *usable.records]
        if self._requirement_facts and fault:
            records.append(_unknown("the compute capability of the GPUs", fault))
        gpus: list[Gpu] = []
        mig_devices: list[MigDevice] = []
        for index, information in usable.values.items():
            answer = answers.get(information.pci_address)
            # Requests for requirement facts do not change which devices are found.
            is_incomplete = index in incomplete
            result = self._gpu(
                index,
                information,
                answer if is_incomplete else None,
                fault if is_incomplete else None,
                facts=answer if self._requirement_facts else None,
            )
            gpus += result.values.gpus
            mig_devices += result.values.mig_devices
            records += result.records
        distinct = _with_own_uuids(Gpus(tuple(gpus), tuple(mig_devices)))
        return SearchResult(distinct.values, (*records, *distinct.records))

    def _procfs(self) -> SearchResult[Described]:
        """Return the GPUs by index, in PCI order. A broken GPU keeps its index."""
        described: Described = {}
        records: list[Record] = []
        index = 0
        for address in proc.gpu_addresses(self._kernel):
            name = _name(index, address)
            try:
                information = proc.gpu_information(self._kernel, address)
            except (OSError, ValueError) as error:
                reason = str(error)
                if isinstance(error, OSError):
                    reason = f"cannot read {proc.GPUS}/{address}/information: {error.strerror}"
                records.append(UnusableDevice(device=name, reason=reason, code="CDG-H101"))
            else:
                if information.excluded:  # NVML does not count it either
                    reason = "excluded by the driver's settings"
                    records.append(
                        Ignored(path=f"GPU at {address}", reason=reason, code="CDG-H112")
                    )
                    continue
                no_node = self._nodes.no_gpu(information.minor)
                if no_node and boot.is_container(self._kernel):
                    # In a container, NVML counts only the GPUs that it can open, from 0.
                    device = f"GPU at {address}"
                    records.append(UnusableDevice(device=device, reason=no_node, code="CDG-H103"))
                    continue
                if proc.is_off_the_bus(self._kernel, address):
                    reason = "the GPU has fallen off the bus (dmesg: Xid 79)"
                    records.append(UnusableDevice(device=name, reason=reason, code="CDG-H102"))
                else:
                    described[index] = information
            index += 1
        return SearchResult(described, tuple(records))

    def _with_nodes(self, described: Described) -> SearchResult[Described]:
        """Return the GPUs whose nodes exist; while the host boots, all GPUs."""
        absent = {
            index: reason
            for index, gpu in described.items()
            if (reason := self._nodes.no_gpu(gpu.minor))
        }
        if not absent or not boot.is_over(self._kernel):
            return SearchResult(described)
        records = tuple(
            UnusableDevice(
                device=_name(index, described[index].pci_address), reason=reason, code="CDG-H103"
            )
            for index, reason in absent.items()
        )
        present = {index: gpu for index, gpu in described.items() if index not in absent}
        return SearchResult(present, records)

    def _incomplete(self, described: Described) -> frozenset[int]:
        """Return the indices of GPUs whose UUID, MIG mode or MIG devices procfs does not have."""
        divisible = proc.gpus_with_mig_directory(self._kernel)
        return frozenset(
            index
            for index, gpu in described.items()
            if gpu.uuid is None
            or self._is_divided(gpu)
            or (
                (divisible is None or gpu.minor in divisible)
                and not NEVER_DIVIDED.search(gpu.model)
            )
        )

    def _is_divided(self, information: proc.GpuInformation) -> bool:
        """Whether the kernel has GPU instances of the GPU."""
        return any(item.gpu_minor == information.minor for item in self._capabilities)

    def _ask_nvml(self, addresses: dict[str, bool]) -> tuple[dict[str, NvmlGpu], NvmlFault | None]:
        """Return NVML's answers by PCI address, and why they are missing or incomplete.

        Args:
            addresses: by PCI address, True to ask for all facts, False for the MIG mode first.
        """
        if not addresses:
            return {}, None
        if self._nvml_library is None:
            return {}, NvmlFault("libnvidia-ml is not installed")
        from cdi_gen.host.devices import mig_mode, nvml  # noqa: PLC0415 - many hosts never need them

        if os.geteuid() == 0 and (reason := trust.fault(self._nvml_library)):
            return {}, NvmlFault(f"root does not load {self._nvml_library}: {reason}")
        mode_only = tuple(address for address, everything in addresses.items() if not everything)
        try:
            modes = mig_mode.ask(self._nvml_library, mode_only) if mode_only else {}
            remaining = tuple(
                address for address in addresses if address not in modes or modes[address].enabled
            )
            answers = {
                address: nvml.NvmlGpu(fault=mode.fault, mig_mode_unknown=mode.unknown)
                for address, mode in modes.items()
            }
            return answers | (nvml.ask(self._nvml_library, remaining) if remaining else {}), None
        except nvml.PynvmlMissing as error:
            return self._ask_mig_modes(self._nvml_library, tuple(addresses), str(error))
        except mig_mode.NvmlUnavailable as error:
            return {}, NvmlFault(str(error))

    def _ask_mig_modes(
        self, library: str, addresses: tuple[str, ...], fault: str
    ) -> tuple[dict[str, NvmlGpu], NvmlFault]:
        """Return the MIG modes, without pynvml: a GPU without MIG needs no other fact of NVML."""
        from cdi_gen.host.devices import mig_mode, nvml  # noqa: PLC0415 - as above

        try:
            modes = mig_mode.ask(library, addresses)
        except mig_mode.NvmlUnavailable as error:
            return {}, NvmlFault(str(error))
        answers = {
            address: nvml.NvmlGpu(
                mig_enabled=mode.enabled,
                mig_mode_unknown=mode.unknown,
                fault=fault if mode.enabled else mode.fault,
            )
            for address, mode in modes.items()
        }
        return answers, NvmlFault(fault, "CDG-H207")

    def _gpu(
        self,
        index: int,
        information: proc.GpuInformation,
        answer: NvmlGpu | None,
        fault: NvmlFault | None,
        *,
        facts: NvmlGpu | None,
    ) -> SearchResult[Gpus]:
        """Return one GPU with its MIG devices; empty if no container can get the GPU."""
        name = _name(index, information.pci_address)
        node = self._nodes.gpu(information.minor)
        records: list[Record] = [*node.records]
        if node.values is None:
            reason = "the driver has no major number"
            return _no_gpu(*records, UnusableDevice(device=name, reason=reason, code="CDG-H104"))
        if answer is not None and answer.fault and not answer.mig_enabled:
            return _no_gpu(
                *records, UnusableDevice(device=name, reason=answer.fault, code="CDG-H105")
            )
        uuid = information.uuid or (answer.uuid if answer else None)
        if uuid is None:
            records.append(_unknown(f"the UUID of {name}", fault))
        is_divided = self._is_divided(information)
        mode_fault = fault
        if answer is not None:
            mode_fault = NvmlFault(answer.mig_mode_unknown) if answer.mig_mode_unknown else None
        if mode_fault and not is_divided:
            records.append(_unknown(f"the MIG mode of {name}", mode_fault))
        mig_enabled = is_divided or (answer is not None and answer.mig_enabled)
        drm = self._nodes.drm(information.pci_address)
        gpu = Gpu(
            index=index,
            minor=information.minor,
            uuid=uuid,
            pci_address=information.pci_address,
            model=information.model,
            nodes=(node.values,),
            drm_nodes=drm.values,
            by_path=self._nodes.by_path(information.pci_address, drm.values),
            mig_enabled=mig_enabled,
            compute_capability=facts.compute_capability if facts else None,
            brand=facts.brand if facts else None,
        )
        records += drm.records
        if not mig_enabled:
            return SearchResult(Gpus((gpu,)), tuple(records))
        mig = self._mig_devices(index, information, answer, fault)
        return SearchResult(Gpus((gpu,), mig.values), (*records, *mig.records))

    def _mig_devices(
        self,
        index: int,
        information: proc.GpuInformation,
        answer: NvmlGpu | None,
        fault: NvmlFault | None,
    ) -> SearchResult[tuple[MigDevice, ...]]:
        """Return the MIG devices of a GPU that has MIG enabled."""
        name = _name(index, information.pci_address)
        if answer is None or answer.fault or answer.mig_mode_unknown:
            nvml_fault = (answer.fault or answer.mig_mode_unknown) if answer else None
            reason = str(nvml_fault or (fault and fault.reason))
            device = f"MIG devices of {name}"
            return SearchResult(
                (), (UnusableDevice(device=device, reason=reason, code="CDG-H107"),)
            )
        if not answer.mig_enabled:
            reason = "the kernel has GPU instances, but NVML reports that MIG is disabled"
            device = f"MIG devices of {name}"
            return SearchResult(
                (), (UnusableDevice(device=device, reason=reason, code="CDG-H111"),)
            )
        if not (answer.mig or answer.mig_faults):
            return SearchResult(
                (), (UnusableDevice(device=name, reason=NO_MIG_DEVICE, code="CDG-H106"),)
            )
        records: list[Record] = [
            UnusableDevice(device=f"MIG device {index}:{number}", reason=reason, code="CDG-H108")
            for number, reason in answer.mig_faults
        ]
        devices: list[MigDevice] = []
        for instance in answer.mig:
            result = self._mig_device(index, information.minor, instance)
            devices += result.values
            records += result.records
        return SearchResult(tuple(devices), tuple(records))

    def _mig_device(
        self, index: int, gpu_minor: int, instance: MigInstance
    ) -> SearchResult[tuple[MigDevice, ...]]:
        """Return one MIG device; empty if no container can get it."""
        name = f"MIG device {index}:{instance.index}"
        nodes = self._mig_nodes(gpu_minor, instance)
        absent = [node.path for node in nodes.values if not node.present]
        if len(nodes.values) != 2:
            reason = "the kernel has no capability for the GPU instance or the compute instance"
            unusable = UnusableDevice(device=name, reason=reason, code="CDG-H109")
            return SearchResult((), (*nodes.records, unusable))
        if absent and boot.is_container(self._kernel):
            reason = f"this container has no device node {' and no '.join(absent)}"
            unusable = UnusableDevice(device=name, reason=reason, code="CDG-H110")
            return SearchResult((), (*nodes.records, unusable))
        device = MigDevice(
            gpu_index=index,
            index=instance.index,
            uuid=instance.uuid,
            gpu_instance=instance.gpu_instance,
            compute_instance=instance.compute_instance,
            profile=instance.profile,
            gpu_instance_cap=nodes.values[0],
            compute_instance_cap=nodes.values[1],
        )
        return SearchResult((device,), nodes.records)

    def _mig_nodes(self, gpu_minor: int, instance: MigInstance) -> SearchResult[list[CharDevice]]:
        """Return the nodes of the GPU instance and of the compute instance that have a number."""
        capabilities = {
            item.compute_instance: item
            for item in self._capabilities
            if (item.gpu_minor, item.gpu_instance) == (gpu_minor, instance.gpu_instance)
        }
        nodes = [
            self._nodes.capability(item.device_minor, item.file_mode)
            for compute_instance in (None, instance.compute_instance)
            if (item := capabilities.get(compute_instance))
        ]
        return SearchResult(
            [node.values for node in nodes if node.values is not None],
            tuple(record for node in nodes for record in node.records),
        )


def _no_gpu(*records: Record) -> SearchResult[Gpus]:
    return SearchResult(Gpus(), records)


def _unknown(name: str, fault: NvmlFault | None) -> Missing:
    reason = f"unknown: {fault.reason if fault else 'NVML does not report it'}"
    return Missing(name=name, reason=reason, code=fault.code if fault else "CDG-H205")


def _with_own_uuids(devices: Gpus) -> SearchResult[Gpus]:
    """Return the devices without UUIDs that several devices have; their other names remain."""
    uuids = [gpu.uuid for gpu in devices.gpus]
    uuids += [device.uuid for device in devices.mig_devices]
    shared = {uuid for uuid, number in Counter(uuids).items() if uuid and number > 1}
    if not shared:
        return SearchResult(devices)
    reason = "several devices have this UUID, so no device is named by it"
    records = tuple(
        Missing(name=f"UUID {uuid}", reason=reason, code="CDG-H206") for uuid in sorted(shared)
    )
    distinct = Gpus(
        tuple(replace(gpu, uuid=None) if gpu.uuid in shared else gpu for gpu in devices.gpus),
        tuple(
            replace(device, uuid=None) if device.uuid in shared else device
            for device in devices.mig_devices
        ),
    )
    return SearchResult(distinct, records)


def _name(index: int, pci_address: str) -> str:
    return f"GPU {index} at {pci_address}"
