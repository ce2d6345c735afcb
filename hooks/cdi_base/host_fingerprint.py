# SPDX-License-Identifier: Apache-2.0
"""A fingerprint of the host: whether what was prepared for it still fits, without its driver.

The library writes the fingerprint into the prepared file, with what it was taken of, and the shim
takes it again and compares. Everything in it is text, numbers and lists, and so the same after a
way through JSON. Which device nodes and files a spec may have, only the library knows: it writes
down what to watch (`Watch`), of the catalogue and the inventory.
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


class Layout:
    """Where the driver is looked for; it may be the administrator's file that says it."""

    __slots__ = ("dev_root", "directories", "driver_root")

    def __init__(
        self, driver_root: str = "", dev_root: str = "", directories: Sequence[str] = ()
    ) -> None:
        self.driver_root = plain(driver_root)
        self.dev_root = plain(dev_root) if dev_root else self.driver_root
        self.directories = tuple(map(plain, directories))
        """Those in which alone libraries, or ICD files and the like, are looked for."""

    def document(self) -> State:
        """Its JSON form."""
        return [self.driver_root, self.dev_root, list(self.directories)]

    @classmethod
    def of(cls, document: object) -> Layout | None:
        """The one of such a form; None: it is none."""
        if not isinstance(document, list) or len(document) != 3:
            return None
        driver_root, dev_root, directories = document
        texts = (driver_root, dev_root, *(directories if isinstance(directories, list) else (0,)))
        return cls(*document) if all(isinstance(each, str) for each in texts) else None


class Watch:
    """What comes and goes on a host and is in specs, besides the driver and its configuration."""

    __slots__ = ("files", "nodes")

    def __init__(self, nodes: Iterable[str] = (), files: Iterable[str] = ()) -> None:
        self.nodes = tuple(sorted({*nodes}))
        """Names in /dev, of nodes or of directories with nodes; `*` at the end is a number."""
        self.files = tuple(sorted({*files}))
        """Absolute paths: daemons make sockets after the first container was started."""

    def document(self) -> State:
        """Its JSON form."""
        return [list(self.nodes), list(self.files)]

    @classmethod
    def of(cls, document: object) -> Watch | None:
        """The one of such a form; None: it is none, as in a file of an older version."""
        if not isinstance(document, list) or len(document) != 2:
            return None
        for names in document:
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                return None
        return cls(*document)


class Choices:
    """What was chosen for a preparation; another choice is another preparation.

    `layout` is what they and the administrator's file come to, `watch` what else to compare: the
    library knows both, and writes them down for the shim.
    """

    __slots__ = (
        "disabled_hooks",
        "driver_root",
        "feature_flags",
        "hook",
        "layout",
        "places",
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
        places: Sequence[str] = (),
        layout: Layout | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.driver_root = plain(driver_root)
        self.hook = hook
        self.spec_directories = distinct(spec_directories)
        self.disabled_hooks = tuple(disabled_hooks)
        self.feature_flags = tuple(feature_flags)
        self.places = tuple(places)
        """What else was said of the host's layout, in words."""
        self.layout = layout or Layout(driver_root)
        self.watch = watch or Watch()


def distinct(directories: Sequence[str]) -> tuple[str, ...]:
    """Spec directories in rising priority, each once, where it counts, however it is written."""
    return tuple(reversed(dict.fromkeys(map(plain, reversed(directories)))))


def plain(path: str) -> str:
    """An absolute path without what makes no other path of it; the root is empty."""
    return "".join(f"/{part}" for part in path.split("/") if part not in {"", "."})


def key(choices: Choices) -> State:
    """All that a preparation depends on, of this host now."""
    layout = choices.layout
    return [
        VERSION,
        [choices.driver_root, list(choices.disabled_hooks), list(choices.feature_flags)],
        [choices.hook, _stamp(choices.hook), list(choices.places)],
        [layout.document(), [[path, _stamp(path)] for path in configuration_files()]],
        _text(f"{DRIVER}/version"),
        _names(f"{DRIVER}/gpus"),
        _instances(f"{DRIVER}/capabilities"),
        choices.watch.document(),
        _nodes(_device_directory(layout), choices.watch.nodes),
        # A driver that is replaced brings libraries, and ldconfig is run for them.
        [_stamp(f"{layout.driver_root}/etc/ld.so.cache"), _identity(layout.driver_root or "/")],
        [[path, _stamp(path)] for path in layout.directories],
        [path for path in choices.watch.files if _identity(path)],
    ]


def _device_directory(layout: Layout) -> str:
    """Where the nodes are: a driver root that is no whole file tree leaves them to the host's."""
    own = f"{layout.dev_root}/dev"
    return own if _identity(own) else DEVICES


def configuration_files() -> list[str]:
    """The administrator's files, in rising priority, whether they are there or not."""
    names = (name for name in _names(CONFIGURATION_DROP_INS) if name.endswith(".toml"))
    return [CONFIGURATION, *(f"{CONFIGURATION_DROP_INS}/{name}" for name in names)]


def _nodes(directory: str, watched: Sequence[str]) -> State:
    """Numbers and mode of each node, names of what is in each directory."""
    found: State = []
    for name in _names(directory):
        stem = name.rstrip("0123456789")
        if name not in watched and (stem == name or f"{stem}*" not in watched):
            continue
        try:
            status = os.lstat(f"{directory}/{name}")
        except OSError:
            continue
        below = _names(f"{directory}/{name}") if not status.st_rdev else []
        found.append([name, status.st_rdev, status.st_mode, below])
    return found


def _instances(directory: str) -> State:
    """The MIG devices: `gpuN/mig/giN/ciN`, and which GPUs have MIG enabled."""
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


def _stamp(path: str) -> list[int]:
    """What changes when a file does."""
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
