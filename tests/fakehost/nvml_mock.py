# SPDX-License-Identifier: Apache-2.0
"""The mock of ``libnvidia-ml``: compiled once, put into a host with the text that it answers from."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fakehost.driver_packages import DriverRootUnavailableError, cache_directory, locked

if TYPE_CHECKING:
    from tests.fakehost.gpus import Gpu
    from tests.fakehost.kernel import Kernel

SOURCE = Path(__file__).with_name("nvml_mock.c")
PARTS = tuple(sorted(SOURCE.parent.glob("nvml_mock_*.c")))
"""Included by `SOURCE`."""
SONAME = "libnvidia-ml.so.1"
DESCRIPTION = "nvml-mock.host"

CUDA_OF_BRANCH = {"470": 11040, "535": 12020, "550": 12040, "555": 12050, "580": 13000}

# nvmlGpuTopologyLevel_t, nvmlIntNvLinkDeviceType_t, and the links of an H100.
NODE, SYSTEM = 40, 50
SWITCH = 2
LINKS = 18

# Values of nvmlReturn_t.
DRIVER_NOT_LOADED = 9
GPU_IS_LOST = 15
LIB_RM_VERSION_MISMATCH = 18


def library() -> Path:
    """The compiled mock, from the cache or freshly made.

    Raises:
        DriverRootUnavailableError: there is no C compiler.
    """
    key = hashlib.sha256(b"".join(path.read_bytes() for path in (SOURCE, *PARTS))).hexdigest()[:12]
    compiled = cache_directory() / "nvml-mock" / f"{key}.so"
    if compiled.exists():
        return compiled
    compiler = shutil.which("cc")
    if compiler is None:
        raise DriverRootUnavailableError("no C compiler (cc) for the NVML mock")
    with locked(compiled):
        building = compiled.with_suffix(".building")
        subprocess.run(
            [
                *(compiler, "-shared", "-fPIC", "-O1", "-pthread", "-Wall", "-Wextra", "-Werror"),
                *(f"-Wl,-soname,{SONAME}", "-o", str(building), str(SOURCE)),
            ],
            check=True,
        )
        building.rename(compiled)
    return compiled


def install(real: Path, kernel: Kernel, library_version: str) -> None:
    """Put the mock in the place of ``real``, a host's ``libnvidia-ml.so.VERSION``.

    ``real`` shares its inode with the cached driver root, so it is replaced and not overwritten.
    """
    real.unlink()
    shutil.copy(library(), real)
    real.chmod(0o644)
    (real.parent / DESCRIPTION).write_text(description(kernel, library_version), encoding="ascii")


def description(kernel: Kernel, library_version: str) -> str:
    """The host as the mock reads it: see the head of ``nvml_mock.c``."""
    code = kernel.nvml_init_code
    if not code and kernel.driver_version != library_version:
        code = LIB_RM_VERSION_MISMATCH
    cuda = CUDA_OF_BRANCH[library_version.partition(".")[0]]
    lines = [f"driver {library_version} {cuda}", f"init {code}"]
    visible = [gpu for gpu in kernel.gpus if not gpu.excluded]
    for gpu in visible:
        model = gpu.model
        major, minor = model.compute_capability
        mode = int(gpu.mig_enabled) if model.mig_capable else -1
        lines.append(
            f"gpu {gpu.uuid} {gpu.minor} {gpu.pci_address} {model.device_id:04x}10de "
            f"{model.subsystem_id:04x}10de {model.brand} {major} {minor} {model.memory_mib} "
            f"{mode} {gpu.nvml_handle_code} {gpu.nvml_query_code} {model.name}"
        )
    for index, gpu in enumerate(visible):
        lines += [
            f"mig {index} {mig.gi} {mig.ci} {mig.uuid} {slices(mig.profile)} "
            f"{mig.memory_mib} {gpu.model.name} MIG {mig.profile}"
            for mig in gpu.mig
        ]
    lines += _connections(visible, switched=bool(kernel.nvswitches))
    return "\n".join(lines) + "\n"


def _connections(gpus: list[Gpu], *, switched: bool) -> list[str]:
    """The PCIe level of each pair, by NUMA nodes; all NVLinks lead to NVSwitches, if there are any."""
    lines = [
        f"topology {first} {second} {NODE if one.numa_node == other.numa_node else SYSTEM}"
        for (first, one), (second, other) in combinations(enumerate(gpus), 2)
    ]
    lines += [
        f"nvlink {index} {link} {SWITCH} 00000000:05:00.0"
        for index in range(len(gpus) * switched)
        for link in range(LINKS)
    ]
    return lines


def slices(profile: str) -> int:
    """GPU slices of a profile: 3 for ``3g.20gb`` and for ``1c.3g.20gb``."""
    return int(profile.split(".")[-2].removesuffix("g"))
