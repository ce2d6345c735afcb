# SPDX-License-Identifier: Apache-2.0
"""Checks the tables of config.toml and converts them to settings.

The keys are those of the NVIDIA Container Toolkit 1.20. An unknown key is a warning, so that a
misspelt security setting is not ignored silently.
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
_COMMA_SEPARATED = frozenset({"swarm_resource", "supported_driver_capabilities"})
"""Lists that are written as one string."""


def settings(
    tables: dict[str, object], source: str, lines: dict[tuple[str, ...], int]
) -> Configuration:
    """Return the settings of a file.

    Args:
        tables: the file's content.
        source: its path, for messages.
        lines: the line of each key.

    Raises:
        ConfigurationError: a key does not allow its value.
    """
    return _Converter(source, lines).convert(tables)


class _Converter:
    """Converts the tables of one file to the attributes of a configuration."""

    def __init__(self, source: str, lines: dict[tuple[str, ...], int]) -> None:
        self._source = source
        self._lines = lines
        self._configuration = Configuration()
        self._warnings: list[str] = []

    def convert(self, tables: dict[str, object]) -> Configuration:
        configuration = self._configuration
        configuration.source = self._source
        features = tables.pop("features", {})
        if not isinstance(features, dict):
            raise self._fault(("features",), "is not a table")
        for name, value in features.items():
            if not isinstance(value, bool):
                raise self._fault(("features", name), "is not true or false")
            if name not in FEATURES:
                self._warn(("features", name), "is an unknown key")
            configuration.features[name] = value
        self._set_attributes(tables, ())
        self._check()
        configuration.warnings = tuple(self._warnings)
        return configuration

    def _set_attributes(self, table: dict[str, object], parent: tuple[str, ...]) -> None:
        for part, value in table.items():
            key = (*parent, part)
            attribute = _ATTRIBUTES.get(".".join(key))
            if attribute is not None:
                setattr(self._configuration, attribute, self._checked(attribute, key, value))
            elif isinstance(value, dict):
                self._set_attributes(value, key)
            else:
                self._warn(key, "is an unknown key")

    def _checked(self, attribute: str, key: tuple[str, ...], value: object) -> object:
        """Return the value if its type is that of the attribute's default."""
        default = getattr(self._configuration, attribute)
        if attribute in _COMMA_SEPARATED:
            return self._words(attribute, key, value)
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise self._fault(key, "is not true or false")
        elif isinstance(default, tuple):
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise self._fault(key, "is not a list of strings")
            return tuple(value)
        elif not isinstance(value, str):
            raise self._fault(key, "is not a string")
        return value

    def _words(self, attribute: str, key: tuple[str, ...], value: object) -> tuple[str, ...]:
        if not isinstance(value, str):
            raise self._fault(key, "is not a string of words separated by commas")
        words = tuple(dict.fromkeys(filter(None, map(str.strip, value.split(",")))))
        if attribute == "swarm_resource":
            return words
        if driver_capabilities.ALL in words:
            return driver_capabilities.SUPPORTED
        unknown = [word for word in words if word not in driver_capabilities.KNOWN]
        if unknown:
            allowed = ", ".join(driver_capabilities.KNOWN)
            raise self._fault(key, f"has {shown(unknown[0])}, which is not one of {allowed}")
        return tuple(word for word in driver_capabilities.KNOWN if word in words)

    def _check(self) -> None:
        configuration = self._configuration
        if configuration.mode not in MODES:
            raise self._attribute_fault(
                "mode", f"is {shown(configuration.mode)}, not one of {', '.join(MODES)}"
            )
        if "" in configuration.annotation_prefixes:
            raise self._attribute_fault(
                "annotation_prefixes", "has an empty prefix, which every annotation begins with"
            )
        if fault_of_kind(configuration.default_kind):
            raise self._attribute_fault("default_kind", "is not of the form vendor/class")
        for directory in configuration.spec_dirs:
            if not directory.startswith("/"):
                raise self._attribute_fault(
                    "spec_dirs", f"has {shown(directory)}, which is not an absolute path"
                )
        if configuration.driver_root and not configuration.driver_root.startswith("/"):
            raise self._attribute_fault("driver_root", "is not an absolute path")
        if not configuration.runtimes:
            raise self._attribute_fault("runtimes", "is empty")
        self._check_ldconfig()
        if configuration.cuda_compat_mode not in COMPAT_MODES:
            # nvidia-ctk rejects no value either; its default is "ldconfig" only with this feature.
            allowed = configuration.features.get("allow-cuda-compat-libs-from-container", False)
            mode = "ldconfig" if allowed else "disabled"
            self._warn_of_attribute(
                "cuda_compat_mode", f"is not one of {', '.join(COMPAT_MODES)}; {mode} is used"
            )
            configuration.cuda_compat_mode = mode

    def _check_ldconfig(self) -> None:
        ldconfig = self._configuration.ldconfig
        if not ldconfig or ldconfig.startswith("@/"):
            return
        if not self._configuration.features.get("allow-ldconfig-from-container"):
            raise self._attribute_fault(
                "ldconfig", "does not begin with '@/', so it is a path in the container"
            )
        self._warn_of_attribute(
            "ldconfig", "is a program of the container, which is never run; the host's is used"
        )
        self._configuration.ldconfig = ""

    def _attribute_fault(self, attribute: str, problem: str) -> ConfigurationError:
        return self._fault(tuple(KEYS[attribute].split(".")), problem)

    def _warn_of_attribute(self, attribute: str, problem: str) -> None:
        self._warn(tuple(KEYS[attribute].split(".")), problem)

    def _warn(self, key: tuple[str, ...], problem: str) -> None:
        self._warnings.append(self._message(key, problem))

    def _fault(self, key: tuple[str, ...], problem: str) -> ConfigurationError:
        return ConfigurationError(self._message(key, problem), code="CDG-C103")

    def _message(self, key: tuple[str, ...], problem: str) -> str:
        """Return the message with its line; a key in an inline table is on the table's line."""
        located = key
        while located and located not in self._lines:
            located = located[:-1]
        line = f", line {self._lines[located]}" if located else ""
        return f"{shown(self._source)}{line}: {shown('.'.join(key))} {problem}"
