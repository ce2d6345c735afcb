# SPDX-License-Identifier: Apache-2.0
"""What a fuzzer calls: each target takes any bytes, and raises only if a rule of the hook is broken.

The rules: no exception but those that are documented, an answer within bounds, and, where the
standard library reads the same language, the same answer.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from cdi_base import elf, requirement, strict_json, toml
from cdi_base.errors import HookError
from cdi_hook import __main__ as hook
from cdi_hook import steps
from cdi_hook.ldso import cache_file, conf
from cdi_hook.steps import enable_cuda_compat
from cdi_runtime import request
from cdi_runtime.config_toml import configuration
from cdi_runtime.config_toml.settings import Configuration


def tried(function: Callable[..., object], *given: object, **named: object) -> Any:
    """What a function gives, or how it refuses."""
    try:
        return function(*given, **named)
    except HookError as error:
        return error


def refused(value: object) -> bool:
    """Whether this is a refusal; it is one short line then."""
    if not isinstance(value, HookError):
        return False
    assert len(str(value)) < 300
    assert str(value).isprintable()
    return True


def read_state(data: bytes) -> None:
    """The OCI state, config.json and NVIDIA's note: never laxer than `json`, never another value."""
    value = tried(strict_json.parse_object, data, "it")
    if not refused(value):
        assert repr(value) == repr(json.loads(data.decode("utf-8-sig")))


class Files:
    """A root file system of files alone, as `ldsoconf` asks for them."""

    def __init__(self, content: dict[str, bytes]) -> None:
        self.content = content
        self.reads = 0

    def status(self, path: str) -> object:
        return self.content.get(path)

    def read(self, path: str, limit: int) -> bytes:
        if path not in self.content:
            raise OSError(errno.ENOENT, "not there", path)
        self.reads += 1
        if len(self.content[path]) > limit:
            raise OSError(errno.EFBIG, "large", path)
        return self.content[path]

    read_in_place = read

    def names(self, folder: str) -> list[str]:
        inside = {path.rpartition("/") for path in self.content}
        return sorted(name for where, _, name in inside if where == folder)


CONFIGURATION = (
    conf.CONF, f"{conf.CONF_DIR}/a.conf", f"{conf.CONF_DIR}/b.conf", "/opt/c", "/etc/.d",
)  # fmt: skip


def read_configuration(data: bytes) -> None:
    """ld.so.conf and what it includes: the files are separated by a 0xff."""
    files = Files(dict(zip(CONFIGURATION, data.split(b"\xff"), strict=False)))
    try:
        listed = tried(conf.directories, files, excluded=CONFIGURATION[2])
    except OSError:
        # The first file, and only that, is not passed over if it cannot be read.
        assert len(files.content[conf.CONF]) > conf.MAX_FILE
        return
    if refused(listed):
        return
    assert len(listed) <= conf.MAX_DIRECTORIES
    assert files.reads < len(CONFIGURATION)
    for folder in listed:
        assert folder.startswith("/")
        assert not set(folder) & set("\n\0#")


def match_pattern(data: bytes) -> None:
    """A pattern and a name, separated by a newline: they match as in the shell, except for `[`."""
    pattern, _, name = os.fsdecode(data[:400]).partition("\n")
    matches = tried(conf._matches, name, pattern)
    if refused(matches):
        return
    expected = fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))
    if name.startswith(".") and not pattern.startswith("."):
        expected = False
    assert matches is expected


SECTION = b".note.test"
"""As tests/hook/shared_objects.py names it."""


def read_elf(data: bytes) -> None:
    """A shared library, and NVIDIA's note in it."""
    descriptor = os.memfd_create("fuzz", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        try:
            library = elf.shared_library(descriptor, dependencies=True)
        except elf.ElfError:
            library = None
        note = elf.note(descriptor, SECTION)
        elf.is_static(descriptor)
    finally:
        os.close(descriptor)
    for name in (library.soname or b"", *library.needed) if library else ():
        assert len(name) <= elf.MAX_SONAME
        assert b"\0" not in name
        assert name in data
    if note is not None:
        assert note in data
        enable_cuda_compat.parse_note(note)


def read_cache(data: bytes) -> None:
    """An ld.so.cache: what is read of it can be written, and is then read again."""
    cache = cache_file.parse(data)
    if cache is None:
        return
    entries = [
        cache_file.Entry(name, folder + b"/" + name, flags)
        for folder, names in cache.folders.items()
        for name, flags in names.items()
    ]
    again = cache_file.parse(cache_file.build(entries, [], cache.generator))
    assert again is not None
    assert again.folders == cache.folders
    assert again.generator == cache.generator


def read_words(data: bytes) -> None:
    """A command line, its words separated by NUL."""
    words = [os.fsdecode(word) for word in data.split(b"\0")]
    plan = tried(hook.plan, hook.CREATE_CONTAINER, hook.HOOKS[hook.CREATE_CONTAINER], words)
    assert refused(plan) or len(plan) <= len(steps.STEPS)


FACTS = requirement.Facts(
    "12.4", None, [requirement.GpuFacts("9.0", "nvidia", "GPU 0"), requirement.GpuFacts()]
)


def check_requirement(data: bytes) -> None:
    """An environment, its entries separated by NUL: a verdict, and what is said of it, in bounds."""
    entries = (os.fsdecode(entry).partition("=") for entry in data.split(b"\0"))
    required = requirement.from_environment({name: value for name, _, value in entries})
    verdict = tried(requirement.check, required, FACTS)
    lines = [str(verdict)] if isinstance(verdict, HookError) else verdict
    assert len(lines) <= len(required) * len(FACTS.gpus)
    for line in lines:
        assert len(line) < 1700
        assert line.isprintable()
    # The place that a message names is the condition's.
    for _, expression in required:
        for alternative in requirement.parse(expression):
            for condition in alternative:
                assert expression[condition.position - 1 :].startswith(condition.text)


def read_toml(data: bytes) -> None:
    """config.toml: never laxer than `tomllib`, never another value, and a place in each refusal."""
    text = data.decode("utf-8", "surrogateescape")
    values = tried(toml.parse, text)
    if refused(values):
        assert str(values).startswith("line ")
    elif sys.version_info >= (3, 11):
        import tomllib

        assert repr(values[0]) == repr(tomllib.loads(text))
    # And whatever it says, it is a configuration or a refusal.
    refused(tried(configuration.parse, data, "config.toml"))


HOST = Configuration()
HOST.accept_volume_mounts = True
HOST.swarm_resource = ("SWARM",)


def read_request(data: bytes) -> None:
    """An environment, mounts (entries that begin with `/`) and annotations (with `@`), by NUL."""
    entries = [os.fsdecode(entry) for entry in data.split(b"\0")]
    config = {
        "process": {"env": [entry for entry in entries if entry[:1] not in {"/", "@"}]},
        "mounts": [
            {"source": "/dev/null", "destination": entry}
            for entry in entries
            if entry.startswith("/")
        ],
        "annotations": dict(entry[1:].split("=", 1) for entry in entries if "=" in entry[1:]),
    }
    asked = tried(request.read, config, HOST, annotations=True)
    if isinstance(asked, HookError):
        assert len(str(asked)) < 500
        assert str(asked).isprintable()
        return
    # What was understood is understood the same when it is asked for again.
    again: dict[str, object] = {"annotations": {"cdi.k8s.io/x": ",".join(asked.devices)}}
    if sum(map(len, asked.devices)) < 3000:
        assert request.read(again, HOST, annotations=True).devices == asked.devices
    assert all(0 <= channel < 1 << 20 for channel in asked.imex_channels)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__.replace("_", "-"): target
    for target in (
        read_state,
        read_configuration,
        match_pattern,
        read_elf,
        read_cache,
        read_words,
        check_requirement,
        read_toml,
        read_request,
    )
}
