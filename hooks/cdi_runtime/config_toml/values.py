# SPDX-License-Identifier: Apache-2.0
"""Checks the tables of config.toml and makes settings of them.

Each key of NVIDIA Container Toolkit 1.20 is checked. A key that is not known is a warning, so that
a misspelt security setting is not ignored silently.
"""

from __future__ import annotations

from cdi_base.cdi.names import fault_of_kind
from cdi_base.errors import shown
from cdi_runtime import driver_capabilities
from cdi_runtime.config_toml.settings import KEYS, Configuration, ConfigurationError

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

_ATTRIBUTES = {name: attribute for attribute, name in KEYS.items()}
_LISTS_AS_TEXT = frozenset({"swarm_resource", "supported_driver_capabilities"})
"""Written as one string, separated by commas."""


def settings(
    tables: dict[str, object], source: str, lines: dict[tuple[str, ...], int]
) -> Configuration:
    """Return the settings of a file.

    Args:
        tables: the file's content.
        source: its path, for messages.
        lines: the line of each key.

    Raises:
        ConfigurationError: a value is not what its key takes.
    """
    return _Filling(source, lines).filled(tables)


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
        return self._fault(tuple(KEYS[attribute].split(".")), what)

    def _soft(self, attribute: str, what: str) -> None:
        self._warn(tuple(KEYS[attribute].split(".")), what)

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
