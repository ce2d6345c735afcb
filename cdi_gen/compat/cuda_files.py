# SPDX-License-Identifier: Apache-2.0
"""Finds CUDA's libraries in an image, and the versions that files name.

| installed by | places |
|---|---|
| NVIDIA's packages and images | ``/usr/local/cuda*/lib64``, ``/usr/local/cuda*/targets/*/lib`` |
| distributions, packages of cuDNN and NCCL | ``/usr/lib/TRIPLET``, ``/usr/lib64`` |
| pip | ``site-packages/nvidia/*/lib``, ``site-packages/torch/lib`` |
| conda | ``PREFIX/lib``, ``PREFIX/conda-meta`` |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cdi_base.errors import HookError
from cdi_base.strict_json import JSONError, parse
from cdi_gen.compat import data
from cdi_gen.images.files import Files

PREFIX = "/usr/local"
TOOLKIT = "/usr/local/cuda"
SYSTEM = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/lib/x86_64-linux-gnu",
)
"""Directories with libraries of all kinds: only those of CUDA are read."""
CONDA = ("/opt/conda", "/opt/miniconda3", "/usr/local/conda")
PYTHON = ("/usr", "/usr/local", "/opt/venv", "/venv", "/app/.venv", "/opt/nvidia")
"""Prefixes with ``lib/python3*/site-packages``; further ones follow from variables."""

STEMS = (
    "libcublas", "libcudnn", "libcufft", "libcurand", "libcusolver", "libcusparse", "libnccl",
    "libnpp", "libnvinfer", "libnvjpeg", "libcudart", "libcutensor",
)  # fmt: skip

MAX_FILE = 1 << 20
MAX_DIRECTORIES = 256
"""The largest number of directories of a variable of the image, or in one of its directories."""
RUNTIME = "libcudart.so."


def versions_of(files: Files, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each CUDA version that a file of the image names, and the path of the file."""
    yield from _toolkit_version(files)
    for directory in (*_toolkit_directories(files), *_system_directories(files, environment)):
        for name in files.names(directory):
            version = name.removeprefix(RUNTIME)
            if name.startswith(RUNTIME) and version.count(".") >= 1 and data.pair(version):
                yield _release(version), f"{directory}/{name}"
    for packages in _site_packages(files, environment):
        yield from _of_packages(files, packages)
    for prefix in _conda_prefixes(environment):
        for name in files.names(f"{prefix}/conda-meta"):
            package, _, rest = name.rpartition("-")[0].rpartition("-")
            if package in {"cuda-cudart", "cudatoolkit"} and data.pair(rest):
                yield _release(rest), f"{prefix}/conda-meta/{name}"


def libraries(files: Files, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the paths of the libraries that may have code for GPUs, each file once."""
    seen: set[str] = set()
    for directory, is_of_cuda in _library_directories(files, environment):
        for name in files.names(directory):
            if ".so" not in name or not (is_of_cuda or name.startswith(STEMS)):
                continue
            node = files.find(f"{directory}/{name}")
            if node is None or node.entry.kind != "file" or node.path in seen:
                continue
            seen.add(node.path)
            yield f"/{node.path}"


def _toolkit_version(files: Files) -> Iterator[tuple[str, str]]:
    path = f"{TOOLKIT}/version.json"
    try:
        document = parse(files.read(path, MAX_FILE) or b"{}")
    except (JSONError, HookError, RecursionError):
        document = {}
    entry = document.get("cuda") if isinstance(document, dict) else None
    version = entry.get("version") if isinstance(entry, dict) else None
    if isinstance(version, str) and data.pair(version):
        yield version, path
    path = f"{TOOLKIT}/version.txt"
    words = (files.read(path, MAX_FILE) or b"").decode("ascii", "replace").split()
    if words[:2] == ["CUDA", "Version"] and len(words) > 2 and data.pair(words[2]):
        yield _release(words[2]), path


def _of_packages(files: Files, packages: str) -> Iterator[tuple[str, str]]:
    """Yield the versions of packages that pip has installed."""
    for name in files.names(packages):
        if name.endswith(".dist-info"):
            package, _, version = name.removesuffix(".dist-info").rpartition("-")
            if package.startswith("nvidia_cuda_runtime") and data.pair(version):
                yield _release(version), f"{packages}/{name}"
    path = f"{packages}/torch/version.py"
    for line in (files.read(path, MAX_FILE) or b"").decode("utf-8", "replace").splitlines():
        variable, equals, value = line.partition("=")
        version = value.strip().strip("'\"")
        if equals and variable.partition(":")[0].strip() == "cuda" and data.pair(version):
            yield version, path


def _release(version: str) -> str:
    """Return the release of CUDA of a library's version: `12.8` for `12.8.90`."""
    numbers = data.pair(version)
    return version if numbers is None else data.text(numbers)


def _library_directories(
    files: Files, environment: Mapping[str, str]
) -> Iterator[tuple[str, bool]]:
    """Yield directories with libraries, and whether all of them are of CUDA."""
    for directory in _toolkit_directories(files):
        yield directory, True
    for packages in _site_packages(files, environment):
        for name in files.names(f"{packages}/nvidia")[:MAX_DIRECTORIES]:
            yield f"{packages}/nvidia/{name}/lib", True
        yield f"{packages}/torch/lib", True
    for directory in _system_directories(files, environment):
        yield directory, False


def _toolkit_directories(files: Files) -> Iterator[str]:
    names = [name for name in files.names(PREFIX) if name.startswith("cuda")]
    for name in names[:MAX_DIRECTORIES]:
        yield f"{PREFIX}/{name}/lib64"
        for target in files.names(f"{PREFIX}/{name}/targets")[:MAX_DIRECTORIES]:
            yield f"{PREFIX}/{name}/targets/{target}/lib"


def _system_directories(files: Files, environment: Mapping[str, str]) -> Iterator[str]:
    yield from SYSTEM
    for prefix in _conda_prefixes(environment):
        yield f"{prefix}/lib"
    for directory in path_variable(environment, "LD_LIBRARY_PATH"):
        if directory.startswith("/") and files.is_directory(directory):
            yield directory


def _site_packages(files: Files, environment: Mapping[str, str]) -> Iterator[str]:
    prefixes = [*PYTHON, *_conda_prefixes(environment), environment.get("VIRTUAL_ENV", "")]
    programs = path_variable(environment, "PATH")
    prefixes += [directory.removesuffix("/bin") for directory in programs]
    for prefix in dict.fromkeys(prefixes):
        if not prefix.startswith("/"):
            continue
        names = [name for name in files.names(f"{prefix}/lib") if name.startswith("python3")]
        for name in names[:MAX_DIRECTORIES]:
            yield f"{prefix}/lib/{name}/site-packages"
            yield f"{prefix}/lib/{name}/dist-packages"


def path_variable(environment: Mapping[str, str], name: str) -> list[str]:
    """Return the different directories of a variable like PATH, at most `MAX_DIRECTORIES`."""
    directories = environment.get(name, "").split(":", MAX_DIRECTORIES)[:MAX_DIRECTORIES]
    return list(dict.fromkeys(directories))


def _conda_prefixes(environment: Mapping[str, str]) -> list[str]:
    prefix = environment.get("CONDA_PREFIX") or environment.get("CONDA_DIR") or ""
    return list(dict.fromkeys([*([prefix] if prefix.startswith("/") else []), *CONDA]))
