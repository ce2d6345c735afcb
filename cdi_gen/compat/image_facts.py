# SPDX-License-Identifier: Apache-2.0
"""Takes the facts for a verdict from an image: its variables and its files."""

from __future__ import annotations

import os
from collections.abc import Iterator

from cdi_base import elf, forward_compatibility, requirement, versions
from cdi_base.errors import HookError
from cdi_gen.compat import cuda_files, data, fatbin
from cdi_gen.compat.facts import CompatLibrary, CompatNote, DeviceCode, ImageFacts
from cdi_gen.images.files import Files
from cdi_gen.images.model import Image
from cdi_gen.images.opening import open_image

MAX_LIBRARIES = 200
"""The largest number of libraries whose code for GPUs is read."""
LIBRARY_PATH = "LD_LIBRARY_PATH"
LOADER_DIRECTORY = "/etc/ld.so.conf.d"
MAX_SETTING = 64 << 10
MAX_SETTINGS = 200
"""The largest file of settings of the loader that is read, and their largest number."""
MAX_PACKED = 64 << 20
"""The largest library that is read of a compressed layer, which has to be decompressed for it."""


def image_facts(image: Image) -> ImageFacts:
    """Return the facts of an image.

    Raises:
        ImageError: a file of the image cannot be read.
    """
    environment = image.environment
    requirements = requirement.from_environment(environment)
    named = list(_versions(image))
    if not named:
        named = [
            (version, name)
            for name, expression in requirements
            if (version := required_cuda(expression)) is not None
        ]
    version, source = max(named, key=_newest, default=(None, ""))
    unread = list(image.unread)
    code: tuple[DeviceCode, ...] = ()
    if image.files is not None:
        code, more = _device_code(image.files, environment)
        unread += more
    return ImageFacts(
        name=image.name,
        digest=image.digest,
        architecture=image.architecture,
        cuda=version,
        cuda_source=source,
        requirements=requirements,
        requirements_disabled=environment.get(requirement.DISABLE) in requirement.TRUE,
        compat=tuple(_compat(image.files)) if image.files is not None else (),
        compat_setting="" if image.files is None else _compat_setting(image.files, environment),
        device_code=code,
        unread=tuple(unread),
    )


def read_facts(text: str, architecture: str | None = None) -> ImageFacts:
    """Open an image by what a user types, and return its facts.

    Args:
        text: see `cdi_gen.images.opening`.
        architecture: for an image of several platforms, in OCI's words; None: the machine's.

    Raises:
        ImageError: no store has the image, or it cannot be read.
    """
    with open_image(text, architecture=architecture) as image:
        return image_facts(image)


def stated_facts(cuda: str | None, expression: str | None) -> ImageFacts:
    """Return the facts that a user states instead of an image.

    Args:
        cuda: the CUDA version.
        expression: of NVIDIA_REQUIRE_CUDA.
    """
    name = f"{requirement.PREFIX}CUDA"
    source = "as given"
    if cuda is None and expression is not None:
        cuda, source = required_cuda(expression), name
    return ImageFacts(
        cuda=cuda,
        cuda_source=source,
        requirements=((name, expression),) if expression else (),
    )


def required_cuda(expression: str) -> str | None:
    """Return the CUDA version of NVIDIA_REQUIRE_CUDA's first condition `cuda>=12.8`.

    NVIDIA's images have their own version there.
    """
    for alternative in requirement.parse(expression):
        for condition in alternative:
            if condition.property == "cuda" and condition.operator in {">=", "="}:
                value = condition.text.partition("=")[2]
                return value if data.pair(value) is not None else None
    return None


def _versions(image: Image) -> Iterator[tuple[str, str]]:
    """Yield each CUDA version that the image names, and what names it."""
    name = requirement.CUDA_VERSION
    value = image.environment.get(name, "").removeprefix("v")
    if data.pair(value) is not None:
        yield value, name
    if image.files is not None:
        yield from cuda_files.versions_of(image.files, image.environment)


def _newest(named: tuple[str, str]) -> tuple[versions.Version, bool]:
    """Order versions; of equal ones the variable counts, which people know."""
    return versions.parse(named[0]) or (), named[1] == requirement.CUDA_VERSION


def _compat(files: Files) -> Iterator[CompatLibrary]:
    """Yield the compat libcuda that the hook would find."""
    directory, stem = forward_compatibility.DIRECTORY, forward_compatibility.STEM
    for name in files.names(directory):
        version = name.removeprefix(stem)
        path = f"{directory}/{name}"
        if name.startswith(stem) and "." in version and files.is_file(path):
            yield CompatLibrary(
                path=path,
                version=version if versions.parse(version) else None,
                note=_note(files, path),
            )


def _compat_setting(files: Files, environment: dict[str, str]) -> str:
    """Return what makes the image's loader find a compat libcuda on every host."""
    directories = cuda_files.path_variable(environment, LIBRARY_PATH)
    if any(_has_compat(files, directory) for directory in directories):
        return LIBRARY_PATH
    names = [name for name in files.names(LOADER_DIRECTORY) if name.endswith(".conf")]
    for name in names[:MAX_SETTINGS]:
        path = f"{LOADER_DIRECTORY}/{name}"
        if not files.is_file(path) or files.size(path) > MAX_SETTING:
            continue
        content = files.read(path, MAX_SETTING) or b""
        lines = (line.partition(b"#")[0].strip() for line in content.split(b"\n"))
        if any(_has_compat(files, os.fsdecode(line)) for line in lines):
            return path
    return ""


def _has_compat(files: Files, directory: str) -> bool:
    parts = directory.split("/")
    return (
        directory.startswith("/")
        and "compat" in parts
        and files.is_file(f"{directory}/libcuda.so.1")
    )


def _note(files: Files, path: str) -> CompatNote | None:
    descriptor = files.descriptor(path)
    if descriptor is None:
        return None
    try:
        content = elf.note(descriptor, forward_compatibility.SECTION)
    finally:
        os.close(descriptor)
    if not content:
        return None
    try:
        note = forward_compatibility.parse_note(content)
    except HookError:
        return None  # the hook treats the library as one without a note
    return CompatNote(
        cuda=".".join(map(str, (*note.cuda, 0)[:2])) if note.cuda else None,
        drivers=tuple(sorted(note.drivers)),
        brands=tuple(sorted(note.brands)),
    )


def _device_code(
    files: Files, environment: dict[str, str]
) -> tuple[tuple[DeviceCode, ...], list[str]]:
    """Return the code for GPUs of the image's CUDA libraries, and what was not read."""
    code: list[DeviceCode] = []
    left_out = count = 0
    for path in cuda_files.libraries(files, environment):
        if count == MAX_LIBRARIES or (files.is_packed(path) and files.size(path) > MAX_PACKED):
            left_out += 1
            continue
        count += 1
        content = files.open(path)
        if content is None:
            continue
        try:
            library = fatbin.device_code(content, path)
        finally:
            content.close()
        if library is not None:
            code.append(library)
    notes = []
    if left_out:
        notes.append(f"the code for GPUs of {left_out} large libraries was not read")
    if code:
        notes.append(
            f"the code for GPUs of {len(code)} libraries was compared; programs and libraries in "
            "other directories were not"
        )
    return tuple(code), notes
