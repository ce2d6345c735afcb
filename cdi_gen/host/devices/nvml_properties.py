# SPDX-License-Identifier: Apache-2.0
"""Asks NVML for the properties of GPUs that a scheduler chooses by.

Each call may fail, for one GPU or for an old driver, and then costs only its own value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from cdi_gen.host.devices import nvml
from cdi_gen.host.devices.mig_mode import NVML_SUCCESS, WITHOUT_MIG, NvmlUnavailable
from cdi_gen.inventory import Driver, Gpu, MigDevice
from cdi_gen.inventory.properties import PCIE_LEVELS, Link, MigProperties

LEVELS = dict(zip((0, 10, 20, 30, 40, 50), PCIE_LEVELS, strict=True))
"""The values of nvmlGpuTopologyLevel_t."""

MAX_NVLINKS = 36
"""NVML_NVLINK_MAX_NVLINKS of the newest NVML; an older NVML refuses the numbers that it lacks."""
SWITCH = 2
"""NVML_NVLINK_DEVICE_TYPE_SWITCH: the other end of the link is an NVSwitch."""
FABRIC_COMPLETED = 3
"""NVML_GPU_FABRIC_STATE_COMPLETED: the GPU has been added to its NVLink fabric."""
FABRIC_CALLS = ("GpuFabricInfoV", "GpuFabricInfo")
"""NVML's names of the facts about the fabric; drivers before R545 have the second one only."""


class NvmlProperties(NamedTuple):
    """The properties of a GPU that NVML reports. None: NVML does not report the value."""

    product: str | None = None
    memory_mib: int | None = None
    compute_capability: str | None = None
    mig_capable: bool | None = None
    fabric_cluster: str | None = None
    fabric_clique: int | None = None


class Answers(NamedTuple):
    """NVML's answers about a host."""

    gpus: Mapping[int, NvmlProperties] = {}
    """The properties of GPUs by their indices; a GPU that has no handle is missing."""
    mig_devices: tuple[MigProperties, ...] = ()
    links: tuple[Link, ...] = ()
    cuda_version: str | None = None


def ask(library: str, gpus: Sequence[Gpu], mig_devices: Sequence[MigDevice]) -> Answers:
    """Return NVML's answers about these GPUs and MIG devices.

    Raises:
        NvmlUnavailable: the library does not load or does not initialise, or pynvml is missing.
    """
    with nvml.initialised(library) as pynvml:
        calls = _Nvml(pynvml)
        handles = {gpu.index: handle for gpu in gpus if (handle := calls.handle(gpu)) is not None}
        return Answers(
            gpus={index: calls.properties(handle) for index, handle in handles.items()},
            mig_devices=tuple(calls.mig_properties(handles, mig_devices)),
            links=tuple(calls.links(handles, gpus)),
            cuda_version=calls.cuda_version(),
        )


class Listed(NamedTuple):
    """The GPUs that NVML lists, and its driver."""

    gpus: tuple[Gpu, ...]
    driver: Driver


def list_gpus(library: str) -> Listed:
    """Return all GPUs in NVML's order, for WSL 2, whose kernel does not list them.

    Raises:
        NvmlUnavailable: the library does not load or does not initialise, or pynvml is missing; or
            NVML does not list its GPUs.
    """
    with nvml.initialised(library) as pynvml:
        try:
            version = nvml.text(pynvml.nvmlSystemGetDriverVersion())
            gpus = []
            for index in range(pynvml.nvmlDeviceGetCount()):
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                uuid, name = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)
                gpus.append(Gpu(index=index, uuid=nvml.text(uuid), model=nvml.text(name)))
        except pynvml.NVMLError as error:
            raise NvmlUnavailable(f"NVML does not list its GPUs: {error}") from error
    driver = Driver(version=version, kernel_module="dxgkrnl", library_version=version)
    return Listed(tuple(gpus), driver)


class _Nvml:
    """Calls of NVML; a call that fails has the result None."""

    def __init__(self, pynvml: Any) -> None:
        self._pynvml = pynvml

    def _call(self, function: str, *arguments: Any) -> Any:
        """Return the result of a function; None if NVML reports an error, or pynvml lacks it."""
        try:
            return getattr(self._pynvml, function)(*arguments)
        except (self._pynvml.NVMLError, AttributeError):
            return None

    def handle(self, gpu: Gpu) -> Any:
        """Return the handle of a GPU."""
        if gpu.pci_address is not None:
            return self._call("nvmlDeviceGetHandleByPciBusId", gpu.pci_address.encode())
        if gpu.uuid is not None:
            return self._call("nvmlDeviceGetHandleByUUID", gpu.uuid.encode())
        return self._call("nvmlDeviceGetHandleByIndex", gpu.index)

    def properties(self, handle: Any) -> NvmlProperties:
        """Return the properties of a GPU."""
        name = self._call("nvmlDeviceGetName", handle)
        memory = self._call("nvmlDeviceGetMemoryInfo", handle)
        capability = self._call("nvmlDeviceGetCudaComputeCapability", handle)
        cluster, clique = self._fabric(handle) or (None, None)
        return NvmlProperties(
            product=None if name is None else nvml.text(name),
            memory_mib=None if memory is None else int(memory.total) >> 20,
            compute_capability=None if capability is None else "{}.{}".format(*capability),
            mig_capable=self._mig_capable(handle),
            fabric_cluster=cluster,
            fabric_clique=clique,
        )

    def cuda_version(self) -> str | None:
        """Return the newest CUDA version that the driver supports: ``13.0``."""
        number = self._call("nvmlSystemGetCudaDriverVersion_v2")
        return f"{number // 1000}.{number % 1000 // 10}" if number else None

    def mig_properties(
        self, handles: Mapping[int, Any], mig_devices: Sequence[MigDevice]
    ) -> Iterator[MigProperties]:
        """Yield the attributes of the MIG devices that have a UUID of their own."""
        for device in mig_devices:
            if device.uuid is None or device.gpu_index not in handles:
                continue
            gpu = handles[device.gpu_index]
            handle = self._call("nvmlDeviceGetMigDeviceHandleByIndex", gpu, device.index)
            attributes = handle and self._call("nvmlDeviceGetAttributes_v2", handle)
            if attributes:
                yield MigProperties(
                    uuid=device.uuid,
                    memory_mib=attributes.memorySizeMB,
                    multiprocessors=attributes.multiprocessorCount,
                    gpu_instance_slices=attributes.gpuInstanceSliceCount,
                    compute_instance_slices=attributes.computeInstanceSliceCount,
                    copy_engines=attributes.sharedCopyEngineCount,
                    decoders=attributes.sharedDecoderCount,
                    encoders=attributes.sharedEncoderCount,
                    jpeg_engines=attributes.sharedJpegCount,
                    ofa_engines=attributes.sharedOfaCount,
                )

    def links(self, handles: Mapping[int, Any], gpus: Sequence[Gpu]) -> Iterator[Link]:
        """Yield the connection of each pair of GPUs whose PCIe level NVML reports."""
        addresses = {_address(gpu.pci_address): gpu.index for gpu in gpus if gpu.pci_address}
        ends = {index: self._nvlink_ends(handle, addresses) for index, handle in handles.items()}
        for first, second in combinations(sorted(handles), 2):
            level = LEVELS.get(
                self._call("nvmlDeviceGetTopologyCommonAncestor", handles[first], handles[second])
            )
            if level is not None:
                # GPUs at NVSwitches reach each other by all the links that they have there.
                switched = min(ends[first].switches, ends[second].switches)
                nvlinks = ends[first].gpus.count(second) + switched
                yield Link(first=first, second=second, pcie=level, nvlinks=nvlinks)

    def _mig_capable(self, handle: Any) -> bool | None:
        """Whether the GPU can have MIG devices: it has a MIG mode, on or off."""
        try:
            self._pynvml.nvmlDeviceGetMigMode(handle)
        except self._pynvml.NVMLError as error:
            return False if error.value in WITHOUT_MIG else None
        except AttributeError:
            return None
        return True

    def _fabric(self, handle: Any) -> tuple[str, int] | None:
        """Return the cluster and the clique of a GPU in an NVLink fabric."""
        import ctypes  # noqa: PLC0415 - NVML is loaded by it
        from uuid import UUID  # noqa: PLC0415 - few GPUs are in a fabric

        for name in FABRIC_CALLS:
            info = self._call(f"c_nvml{name}_t")
            code = info and self._call(f"nvmlDeviceGet{name}", handle, ctypes.byref(info))
            if code != NVML_SUCCESS:
                continue
            cluster = bytes(info.clusterUuid)
            if info.state == FABRIC_COMPLETED and not info.status and any(cluster):
                return str(UUID(bytes=cluster)), int(info.cliqueId)
            return None
        return None

    def _nvlink_ends(self, handle: Any, addresses: Mapping[str, int]) -> _Ends:
        """Return what the active NVLinks of a GPU lead to."""
        gpus, switches = [], 0
        for link in range(MAX_NVLINKS):
            active = self._call("nvmlDeviceGetNvLinkState", handle, link)
            if active is None and link == 0:
                break  # a GPU without NVLink
            if not active:
                continue
            if self._call("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link) == SWITCH:
                switches += 1
                continue
            remote = self._call("nvmlDeviceGetNvLinkRemotePciInfo", handle, link)
            if remote is not None:
                index = addresses.get(_address(nvml.text(remote.busId)))
                gpus += [] if index is None else [index]
        return _Ends(tuple(gpus), switches)


class _Ends(NamedTuple):
    """The other ends of the active NVLinks of a GPU."""

    gpus: tuple[int, ...]
    """The index of the GPU at each link."""
    switches: int
    """The number of links to NVSwitches."""


def _address(pci_address: str) -> str:
    """Return a PCI address in one form: NVML writes ``00000000:3B:00.0``."""
    domain, _, rest = pci_address.lower().partition(":")
    return f"{domain.lstrip('0')}:{rest}"
