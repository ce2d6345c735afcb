# SPDX-License-Identifier: Apache-2.0
"""Computes a fingerprint of the host, which shows whether prepared specs still fit the host.

The library writes the fingerprint and its inputs into the prepared file; the shim computes it again
and compares. A fingerprint consists of text, numbers and lists, which JSON keeps as they are. The
shim does not know which device nodes and files a spec may have; the library writes them into the
prepared file as a `Watch`, from the catalogue and the inventory.
"""

from __future__ import annotations

import os

from cdi_base import CONFIGURATION, CONFIGURATION_DROP_INS, VERSION
from cdi_base.files import read_beginning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    State = list[object]

DRIVER = "/proc/driver/nvidia"

DEVICES = "/dev"

NIXOS_LIBRARIES = "/run/opengl-driver/lib"
"""A link to the driver's libraries of the system's current generation. NixOS has no ldconfig, and
the files of a generation never change."""


class Layout:
    """The directories of the driver, from options or from the administrator's configuration."""

    __slots__ = ("dev_root", "directories", "driver_root")

    def __init__(
        self, driver_root: str = "", dev_root: str = "", directories: Sequence[str] = ()
    ) -> None:
        self.driver_root = plain(driver_root)
        self.dev_root = plain(dev_root) if dev_root else self.driver_root
        self.directories = tuple(map(plain, directories))
        """The only directories that are searched for libraries and data files such as ICDs."""

    def document(self) -> State:
        """Return the JSON form."""
        return [self.driver_root, self.dev_root, list(self.directories)]

    @classmethod
    def of(cls, document: object) -> Layout | None:
        """Return the layout of a JSON form; None if the document is not one."""
        if not isinstance(document, list) or len(document) != 3:
            return None
        driver_root, dev_root, directories = document
        texts = (driver_root, dev_root, *(directories if isinstance(directories, list) else (0,)))
        return cls(*document) if all(isinstance(text, str) for text in texts) else None


class Watch:
    """Nodes and files of specs that can appear and disappear while the driver stays the same."""

    __slots__ = ("files", "nodes")

    def __init__(self, nodes: Iterable[str] = (), files: Iterable[str] = ()) -> None:
        self.nodes = tuple(sorted({*nodes}))
        """Names in /dev of nodes, or of directories with nodes; a final `*` stands for a number."""
        self.files = tuple(sorted({*files}))
        """Absolute paths: a daemon may create its socket after the first container has started."""

    def document(self) -> State:
        """Return the JSON form."""
        return [list(self.nodes), list(self.files)]

    @classmethod
    def of(cls, document: object) -> Watch | None:
        """Return the watch of a JSON form; None if there is none, as in an older version's file."""
        if not isinstance(document, list) or len(document) != 2:
            return None
        for names in document:
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                return None
        return cls(*document)


class Choices:
    """The options of a preparation; prepared specs are valid for the same options only.

    `layout` results from the options and the administrator's configuration; `watch` has the nodes
    and files to compare. The library knows both, and writes them to the prepared file for the shim.
    """

    __slots__ = (
        "disabled_hooks",
        "driver_root",
        "feature_flags",
        "hook",
        "layout",
        "layout_options",
        "spec_directories",
        "watch",
    )

    def __init__(
        self,
        driver_root: str = "",
        hook: str = "",
        spec_directories: Sequence[str] = (),
        disabled_hooks: Sequence[str] = (),
        feature_flags: Sequence[str] = (),
        layout_options: Sequence[str] = (),
        layout: Layout | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.driver_root = plain(driver_root)
        self.hook = hook
        self.spec_directories = distinct(spec_directories)
        self.disabled_hooks = tuple(disabled_hooks)
        self.feature_flags = tuple(feature_flags)
        self.layout_options = tuple(layout_options)
        """Further options on the host's layout, as text."""
        self.layout = layout or Layout(driver_root)
        self.watch = watch or Watch()


def distinct(directories: Sequence[str]) -> tuple[str, ...]:
    """Return spec directories in rising priority, each once, at the position that counts."""
    return tuple(reversed(dict.fromkeys(map(plain, reversed(directories)))))


def plain(path: str) -> str:
    """Return an absolute path without empty and `.` components; the root is empty."""
    return "".join(f"/{part}" for part in path.split("/") if part not in {"", "."})


def key(choices: Choices, host_root: str = "") -> State:
    """Return the fingerprint of this host now: all that a preparation depends on.

    `host_root` is the path of the host's `/` for this process, if the process is in a container.
    """
    layout = choices.layout
    root = host_root.rstrip("/")
    files = configuration_files(root)
    return [
        VERSION,
        [choices.driver_root, list(choices.disabled_hooks), list(choices.feature_flags)],
        [
            choices.hook,
            stamp(f"{root}{choices.hook}") if choices.hook else [],
            list(choices.layout_options),
        ],
        [layout.document(), [[path, stamp(f"{root}{path}")] for path in files]],
        _text(f"{root}{DRIVER}/version"),
        _names(f"{root}{DRIVER}/gpus"),
        _instances(f"{root}{DRIVER}/capabilities"),
        choices.watch.document(),
        _nodes(_device_directory(layout, root), choices.watch.nodes),
        # Installing another driver brings new libraries, for which ldconfig is run.
        [
            stamp(f"{root}{layout.driver_root}/etc/ld.so.cache"),
            _identity(f"{root}{layout.driver_root}" or "/"),
            _identity(f"{root}{layout.driver_root}{NIXOS_LIBRARIES}"),
        ],
        [[path, stamp(f"{root}{path}")] for path in layout.directories],
        [path for path in choices.watch.files if _identity(f"{root}{path}")],
    ]


def _device_directory(layout: Layout, root: str) -> str:
    """Return the directory of the device nodes: the host's, if the driver root has no /dev."""
    own = f"{root}{layout.dev_root}/dev"
    return own if _identity(own) else f"{root}{DEVICES}"


def configuration_files(root: str = "") -> list[str]:
    """Return the administrator's configuration files in rising priority; they need not exist.

    `root` is the path of the host's `/` without a slash at its end.
    """
    names = (name for name in _names(f"{root}{CONFIGURATION_DROP_INS}") if name.endswith(".toml"))
    return [CONFIGURATION, *(f"{CONFIGURATION_DROP_INS}/{name}" for name in names)]


def _nodes(directory: str, watched: Sequence[str]) -> State:
    """Return the numbers and mode of each node, and the names in each directory."""
    nodes: State = []
    for name in _names(directory):
        stem = name.rstrip("0123456789")
        if name not in watched and (stem == name or f"{stem}*" not in watched):
            continue
        try:
            status = os.lstat(f"{directory}/{name}")
        except OSError:
            continue
        children = _names(f"{directory}/{name}") if not status.st_rdev else []
        nodes.append([name, status.st_rdev, status.st_mode, children])
    return nodes


def _instances(directory: str) -> State:
    """Return the MIG devices, `gpuN/mig/giN/ciN`, which also show the GPUs with MIG enabled."""
    return [
        [gpu, [[instance, _names(f"{directory}/{gpu}/mig/{instance}")] for instance in instances]]
        for gpu in _names(directory)
        if gpu.startswith("gpu")
        for instances in [[n for n in _names(f"{directory}/{gpu}/mig") if n.startswith("gi")]]
    ]


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        return read_beginning(path, 4096).decode("ascii", "backslashreplace")
    except OSError:
        return ""


def stamp(path: str) -> list[int]:
    """Return attributes that change when the file changes; empty if the file does not exist."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return []
    return [status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino]


def _identity(path: str) -> list[int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return []
    return [status.st_dev, status.st_ino]
