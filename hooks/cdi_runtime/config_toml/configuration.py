# SPDX-License-Identifier: Apache-2.0
"""`/etc/nvidia-container-runtime/config.toml`: what a host decided, in the file it has already.

Each key of NVIDIA Container Toolkit 1.20 is read and checked. A key that nobody knows is a warning:
a host must not be open because of a slip of the pen that nobody was told of.
"""

from __future__ import annotations

import errno
import os

from cdi_base import toml, trust
from cdi_base.cdi.names import fault_of_kind
from cdi_base.errors import HookError, shown
from cdi_runtime.request import driver_capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PLACE = "nvidia-container-runtime/config.toml"
"""Below /etc, or below what XDG_CONFIG_HOME says."""
OVERRIDE = "NVIDIA_CTK_CONFIG_FILE_PATH"
MAX_BYTES = 1 << 18

MODES = ("auto", "legacy", "csv", "cdi", "jit-cdi")
COMPAT_MODES = ("disabled", "hook", "ldconfig", "mount")
FEATURES = frozenset(
    {
        "allow-cuda-compat-libs-from-container",
        "allow-ldconfig-from-container",
        "allow-unknown-oci-spec-fields",
        "disable-cuda-compat-lib-hook",
        "disable-imex-channel-creation",
        "ignore-imex-channel-requests",
        "no-additional-gids-for-device-nodes",
    }
)

_CLI = "nvidia-container-cli"
_RUNTIME = "nvidia-container-runtime"
_HOOK = "nvidia-container-runtime-hook"
_NAMES = {
    "disable_require": "disable-require",
    "swarm_resource": "swarm-resource",
    "accept_environment_unprivileged": "accept-nvidia-visible-devices-envvar-when-unprivileged",
    "accept_volume_mounts": "accept-nvidia-visible-devices-as-volume-mounts",
    "supported_driver_capabilities": "supported-driver-capabilities",
    "driver_root": f"{_CLI}.root",
    "cli_path": f"{_CLI}.path",
    "cli_environment": f"{_CLI}.environment",
    "cli_debug": f"{_CLI}.debug",
    "ldcache": f"{_CLI}.ldcache",
    "ldconfig": f"{_CLI}.ldconfig",
    "load_kmods": f"{_CLI}.load-kmods",
    "no_pivot": f"{_CLI}.no-pivot",
    "no_cgroups": f"{_CLI}.no-cgroups",
    "user": f"{_CLI}.user",
    "debug": f"{_RUNTIME}.debug",
    "log_level": f"{_RUNTIME}.log-level",
    "mode": f"{_RUNTIME}.mode",
    "runtimes": f"{_RUNTIME}.runtimes",
    "spec_dirs": f"{_RUNTIME}.modes.cdi.spec-dirs",
    "default_kind": f"{_RUNTIME}.modes.cdi.default-kind",
    "annotation_prefixes": f"{_RUNTIME}.modes.cdi.annotation-prefixes",
    "csv_mount_spec_path": f"{_RUNTIME}.modes.csv.mount-spec-path",
    "csv_compat_container_root": f"{_RUNTIME}.modes.csv.compat-container-root",
    "jit_feature_flags": f"{_RUNTIME}.modes.jit-cdi.nvcdi-feature-flags",
    "jit_disabled_hooks": f"{_RUNTIME}.modes.jit-cdi.nvcdi-disable-hooks",
    "cuda_compat_mode": f"{_RUNTIME}.modes.legacy.cuda-compat-mode",
    "hook_path": f"{_HOOK}.path",
    "skip_mode_detection": f"{_HOOK}.skip-mode-detection",
    "ctk_path": "nvidia-ctk.path",
}
"""Attributes, and the keys they have in the file."""
_ATTRIBUTES = {name: attribute for attribute, name in _NAMES.items()}
_LISTS_AS_TEXT = frozenset({"swarm_resource", "supported_driver_capabilities"})
"""Written as one string, separated by commas."""


class ConfigurationError(HookError):
    """config.toml cannot be read, or says what makes no sense: file, line, and what."""

    code = "CDG-C101"


class Configuration:
    """What config.toml says, or the defaults of NVIDIA Container Toolkit 1.20.

    Where that takes an empty text for "not said", so does this. Paths are the host's.
    """

    __slots__ = (*_NAMES, "features", "source", "warnings")

    def __init__(self) -> None:
        self.disable_require = False
        self.swarm_resource: tuple[str, ...] = ()
        """Variables that hold devices; NVIDIA_VISIBLE_DEVICES counts only where none is set."""
        self.accept_environment_unprivileged = True
        self.accept_volume_mounts = False
        self.supported_driver_capabilities = driver_capabilities.SUPPORTED
        self.driver_root = ""
        self.cli_path = ""
        self.cli_environment: tuple[str, ...] = ()
        self.cli_debug = ""
        self.ldcache = ""
        self.ldconfig = ""
        """With its `@`: it is the host's. Empty: the one that the host has."""
        self.load_kmods = True
        self.no_pivot = False
        self.no_cgroups = False
        self.user = ""
        self.debug = "/dev/null"
        self.log_level = "info"
        self.mode = "auto"
        self.runtimes: tuple[str, ...] = ("runc", "crun")
        self.spec_dirs: tuple[str, ...] = ("/etc/cdi", "/var/run/cdi")
        """In rising priority."""
        self.default_kind = "nvidia.com/gpu"
        self.annotation_prefixes: tuple[str, ...] = ("cdi.k8s.io/",)
        self.csv_mount_spec_path = "/etc/nvidia-container-runtime/host-files-for-container.d"
        self.csv_compat_container_root = ""
        self.jit_feature_flags: tuple[str, ...] = ()
        self.jit_disabled_hooks: tuple[str, ...] = ()
        self.cuda_compat_mode = "ldconfig"
        self.hook_path = "nvidia-container-runtime-hook"
        self.skip_mode_detection = False
        self.ctk_path = "nvidia-ctk"
        self.features: dict[str, bool] = {}
        self.source: str | None = None
        """The file it is of; None where there was none."""
        self.warnings: tuple[str, ...] = ()
        """One line each, for a log."""


def load(path: str | None = None, environment: Mapping[str, str] | None = None) -> Configuration:
    """The host's configuration; the defaults where it has none.

    Args:
        path: of a file that must be there. None: where NVIDIA_CTK_CONFIG_FILE_PATH says, which must
            be there too, or else below XDG_CONFIG_HOME or /etc, if it is there.
        environment: has these two variables; that of the process if None.

    Raises:
        ConfigurationError: it is not there, not of root's, not TOML, or has a value that is not
            what its key takes.
    """
    told = os.environ if environment is None else environment
    chosen = path or _place(OVERRIDE, told)
    place = chosen or f"{_place('XDG_CONFIG_HOME', told) or '/etc'}/{PLACE}"
    try:
        content = _read(place)
    except FileNotFoundError:
        if chosen:
            raise ConfigurationError(f"{shown(place)} is not there") from None
        return Configuration()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) == errno.EPERM:
            reason = f"{reason}; only root may be able to change it (root:root, mode 0644)"
        raise ConfigurationError(f"{shown(place)} is not read: {reason}") from None
    return parse(content, place)


def _place(name: str, environment: Mapping[str, str]) -> str:
    """A path that a variable says.

    Of a spec without `env`, runc before 1.3 starts hooks with the image's environment, in the
    image's root. So what can lead to a file of the image is refused: a relative path, and one in
    /proc or /dev.

    Raises:
        ConfigurationError: it is such a path.
    """
    path = environment.get(name, "")
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path and (path[0] != "/" or ".." in parts or parts[:1] in (["proc"], ["dev"])):
        raise ConfigurationError(f"{name} is {shown(path)}, which is no place for config.toml")
    return path


def parse(content: bytes, source: str) -> Configuration:
    """The configuration that a file's content is.

    Raises:
        ConfigurationError: as `load`.
    """
    try:
        values, lines = toml.parse(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"{shown(source)}, line {line}: not UTF-8", code="CDG-C102"
        ) from None
    except toml.TomlError as error:
        raise ConfigurationError(f"{shown(source)}, {error}", code="CDG-C102") from None
    return _Filling(source, lines).filled(values)


def _read(path: str) -> bytes:
    """Return the file's content.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, or others than root can change it.
    """
    # The machine's root acts on the file for all users. A rootless user's own directories may be
    # writable by the user's own group, as useradd and umask 002 make them.
    if os.geteuid() == 0 and trust.in_first_user_namespace():
        absolute = path if path.startswith("/") else f"{os.getcwd()}/{path}"
        if reason := trust.fault(absolute):
            raise PermissionError(errno.EPERM, reason.removeprefix(f"{path} "), path)
    return trust.read(path, MAX_BYTES, follow=True)


class _Filling:
    """From the tables of a file to the attributes."""

    def __init__(self, source: str, lines: dict[tuple[str, ...], int]) -> None:
        self._source = source
        self._lines = lines
        self._made = Configuration()
        self._warnings: list[str] = []

    def filled(self, values: dict[str, object]) -> Configuration:
        made = self._made
        made.source = self._source
        features = values.pop("features", {})
        if not isinstance(features, dict):
            raise self._fault(("features",), "is not a table")
        for name, value in features.items():
            if not isinstance(value, bool):
                raise self._fault(("features", name), "is not true or false")
            if name not in FEATURES:
                self._warn(("features", name), "is not known")
            made.features[name] = value
        self._take(values, ())
        self._check()
        made.warnings = tuple(self._warnings)
        return made

    def _take(self, table: dict[str, object], above: tuple[str, ...]) -> None:
        for part, value in table.items():
            key = (*above, part)
            attribute = _ATTRIBUTES.get(".".join(key))
            if attribute is not None:
                setattr(self._made, attribute, self._fitting(attribute, key, value))
            elif isinstance(value, dict):
                self._take(value, key)
            else:
                self._warn(key, "is not known")

    def _fitting(self, attribute: str, key: tuple[str, ...], value: object) -> object:
        """The value, if it is of the type that the default has."""
        default = getattr(self._made, attribute)
        if attribute in _LISTS_AS_TEXT:
            return self._words(attribute, key, value)
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise self._fault(key, "is not true or false")
        elif isinstance(default, tuple):
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise self._fault(key, "is not a list of texts")
            return tuple(value)
        elif not isinstance(value, str):
            raise self._fault(key, "is not a text")
        return value

    def _words(self, attribute: str, key: tuple[str, ...], value: object) -> tuple[str, ...]:
        if not isinstance(value, str):
            raise self._fault(key, "is not a text, its words separated by commas")
        words = tuple(dict.fromkeys(filter(None, map(str.strip, value.split(",")))))
        if attribute == "swarm_resource":
            return words
        if driver_capabilities.ALL in words:
            return driver_capabilities.SUPPORTED
        unknown = [word for word in words if word not in driver_capabilities.KNOWN]
        if unknown:
            known = ", ".join(driver_capabilities.KNOWN)
            raise self._fault(key, f"has {shown(unknown[0])}, which is none of {known}")
        return tuple(word for word in driver_capabilities.KNOWN if word in words)

    def _check(self) -> None:
        made = self._made
        if made.mode not in MODES:
            raise self._wrong("mode", f"is {shown(made.mode)}, and none of {', '.join(MODES)}")
        if "" in made.annotation_prefixes:
            raise self._wrong("annotation_prefixes", "has an empty one: all annotations begin so")
        if fault_of_kind(made.default_kind):
            raise self._wrong("default_kind", "is not of the form vendor/class")
        for place in made.spec_dirs:
            if not place.startswith("/"):
                raise self._wrong("spec_dirs", f"has {shown(place)}, which is not absolute")
        if made.driver_root and not made.driver_root.startswith("/"):
            raise self._wrong("driver_root", "is not absolute")
        if not made.runtimes:
            raise self._wrong("runtimes", "is empty")
        self._check_ldconfig()
        if made.cuda_compat_mode not in COMPAT_MODES:
            self._soft("cuda_compat_mode", f"is none of {', '.join(COMPAT_MODES)}; not used")
            # As the peer: no word is a refusal, and its own default only where that is allowed.
            allowed = made.features.get("allow-cuda-compat-libs-from-container", False)
            made.cuda_compat_mode = "ldconfig" if allowed else "disabled"

    def _check_ldconfig(self) -> None:
        ldconfig = self._made.ldconfig
        if not ldconfig or ldconfig.startswith("@/"):
            return
        if not self._made.features.get("allow-ldconfig-from-container"):
            raise self._wrong("ldconfig", "does not begin with '@/': it would be the container's")
        self._soft("ldconfig", "is the container's, which is never run; the host's is used")
        self._made.ldconfig = ""

    def _wrong(self, attribute: str, what: str) -> ConfigurationError:
        return self._fault(tuple(_NAMES[attribute].split(".")), what)

    def _soft(self, attribute: str, what: str) -> None:
        self._warn(tuple(_NAMES[attribute].split(".")), what)

    def _warn(self, key: tuple[str, ...], what: str) -> None:
        self._warnings.append(self._line(key, what))

    def _fault(self, key: tuple[str, ...], what: str) -> ConfigurationError:
        return ConfigurationError(self._line(key, what), code="CDG-C103")

    def _line(self, key: tuple[str, ...], what: str) -> str:
        """A key inside an inline table is on the line of the table."""
        known = key
        while known and known not in self._lines:
            known = known[:-1]
        line = f", line {self._lines[known]}" if known else ""
        return f"{shown(self._source)}{line}: {shown('.'.join(key))} {what}"
