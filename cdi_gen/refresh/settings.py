# SPDX-License-Identifier: Apache-2.0
"""What ``cdi-gen refresh`` keeps up to date: the settings, and the layout of the host.

The module is cheap to import, because most refreshes find nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from cdi_gen.errors import UsageError

if TYPE_CHECKING:
    from cdi_gen.host import Where

Value = str | tuple[str, ...] | bool

State = list[object]
"""Text, numbers and lists, which JSON keeps as they are."""

FILES, TREE = "files", "tree"
CHOICES = {"form": (FILES, TREE), "hooks": ("auto", "none")}


class Settings(NamedTuple):
    """The settings of ``refresh``; the fields are the keys of ``[refresh]`` in config.toml."""

    form: str = FILES
    """``files``: the specs mount each file of the driver. ``tree``: they mount the driver tree."""
    hooks: str = "auto"
    """``none``: the specs have no hook, as with ``generate --hooks=none``."""
    modes: tuple[str, ...] = ("auto", "cap")
    """Modes of ``generate``; a spec of a transport is written if the host has its devices."""
    capabilities: tuple[str, ...] = ("all",)
    """Driver capabilities of the GPU spec."""
    output_directory: str = "/run/cdi"
    """The spec directory. Its file system should not survive a reboot, as the driver may not."""
    device_nodes: bool = False
    """Create missing device nodes first, as ``cdi-gen system create-device-nodes``."""
    dev_char_symlinks: bool = False
    """Link the nodes in /dev/char, as ``cdi-gen system create-dev-char-symlinks``."""


DEFAULTS = Settings()


def settings(values: Mapping[str, Value]) -> Settings:
    """Return the settings with these values, by key: ``output-directory``.

    Raises:
        UsageError: a value is not one of its key's choices, or a list is empty.
    """
    chosen = DEFAULTS._replace(
        **{key.replace("-", "_"): value for key, value in values.items()}  # type: ignore[arg-type]
    )
    for key, choices in CHOICES.items():
        value = getattr(chosen, key)
        if value not in choices:
            raise UsageError(
                f"{key} of refresh: unknown value {value!r}",
                hint=f"the values are {', '.join(choices)}",
                code="CDG-U003",
                subject=key,
            )
    for key in ("modes", "capabilities"):
        if not getattr(chosen, key):
            raise UsageError(f"{key} of refresh: the list is empty", code="CDG-U006", subject=key)
    return chosen


class Layout(NamedTuple):
    """The layout of the host, as in ``cdi_gen.host.Where``, which takes longer to import."""

    driver_root: str = "/"
    dev_root: str | None = None
    library_search_path: tuple[str, ...] = ()
    config_search_path: tuple[str, ...] = ()
    hook_path: str | None = None
    host_root: str = "/"

    def where(self, *, nvml: bool = True) -> Where:
        """Return the locations to search."""
        from cdi_gen.host import Where  # noqa: PLC0415 - not needed if nothing has changed

        return Where(**self._asdict(), nvml=nvml)

    @property
    def prefix(self) -> str:
        """What comes before a path of the host, so that this process can open it."""
        return self.host_root.rstrip("/")


class Request(NamedTuple):
    """One call of ``refresh``: the specs of a record are valid for an equal request only."""

    settings: Settings = DEFAULTS
    layout: Layout = Layout()

    def document(self) -> State:
        """Return the JSON form."""
        return [_plain(self.settings), _plain(self.layout)]

    @classmethod
    def of(cls, document: object) -> Request | None:
        """Return the request of a JSON form; None if it is of another version."""
        if not isinstance(document, list) or len(document) != 2:
            return None
        try:
            settings_values, layout_values = ([*map(_immutable, values)] for values in document)
            settings, layout = Settings(*settings_values), Layout(*layout_values)
        except TypeError:
            return None
        are_settings = all(type(value) is type(DEFAULTS[i]) for i, value in enumerate(settings))
        return cls(settings, layout) if are_settings else None


def _plain(values: tuple[object, ...]) -> State:
    return [list(value) if isinstance(value, tuple) else value for value in values]


def _immutable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
