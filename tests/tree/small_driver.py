# SPDX-License-Identifier: Apache-2.0
"""A driver of four small files, its tree, and what is mounted; without pytest, for child processes."""

from __future__ import annotations

from pathlib import Path

from cdi_gen.generate.driver_tree import DriverTree, TreeFile, TreeLink
from cdi_gen.paths import HostPath

FILES = {
    "lib64/libcuda.so.550.54": "libcuda.so.550.54",
    "lib64/libnvidia-ml.so.550.54": "libnvidia-ml.so.550.54",
    "bin/nvidia-smi": "nvidia-smi",
    "data/etc/OpenCL/vendors/nvidia.icd": "nvidia.icd",
}
COPIED = {"bin/nvidia-smi"}
MOUNTS = 1 + len(FILES.keys() - COPIED)
LINKS = {
    "lib64/libcuda.so.1": "libcuda.so.550.54",
    "lib64/libcuda.so": "libcuda.so.1",
    "lib64/gbm/nvidia-drm_gbm.so": "../libcuda.so.1",
    "loader/libcuda.so.1": "/usr/local/nvidia/lib64/libcuda.so.1",
}


def tree_of(driver: Path, *, without: str = "") -> DriverTree:
    """The tree of a driver in a directory."""
    return DriverTree(
        version="550.54",
        cuda_version="12.4",
        files=tuple(
            TreeFile(path, HostPath(str(driver / name)), path in COPIED)
            for path, name in sorted(FILES.items())
            if name != without
        ),
        links=tuple(TreeLink(*link) for link in sorted(LINKS.items())),
    )


def write(folder: Path) -> None:
    """Write the files of the driver into a directory."""
    folder.mkdir()
    for name in FILES.values():
        (folder / name).write_text(f"{name} of 550.54\n", encoding="ascii")
        (folder / name).chmod(0o755 if name == "nvidia-smi" else 0o644)


def replace(file: Path, text: str) -> None:
    """Replace a file as package managers do: the old one stays for those that have it open."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(text, encoding="ascii")
    new.rename(file)


def mounts_below(path: str | Path, process: int | str = "thread-self") -> dict[str, set[str]]:
    """The options of each mount at or below a path."""
    found = {}
    for line in Path(f"/proc/{process}/mountinfo").read_text(encoding="utf-8").splitlines():
        place, options = line.split(" ")[4:6]
        if f"{place}/".startswith(f"{path}/"):
            found[place] = set(options.split(","))
    return found
