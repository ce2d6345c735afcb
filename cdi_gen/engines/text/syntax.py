# SPDX-License-Identifier: Apache-2.0
"""What can be done to one value of a text, whichever language the text is in."""

from __future__ import annotations

from typing import Any, Protocol

Path = tuple[str, ...]

UTF_8_HINT = "save the file as UTF-8 without a byte order mark"
"""The hint about a file of an editor that writes another encoding, as those of Windows do."""


class Syntax(Protocol):
    """A language of configuration files. Each function but `value` may find that a text is none.

    Raises:
        CdiGenError: the text is not of this language, or cannot be changed so.
    """

    def check(self, text: str) -> None:
        """Raise if a text is not of this language."""

    def find(self, text: str, path: Path) -> str | None:
        """The text of the value at a path; None where there is none."""

    def value(self, written: str) -> Any:
        """What the text of a value says, to be compared."""

    def put(self, text: str, path: Path, wanted: str) -> str:
        """The text, and in it a value, itself a text, at a path."""

    def written(self, value: Any) -> str:
        """The text of a value."""

    def remove(self, text: str, path: Path, above: int) -> str:
        """The text without the value at a path, nor the tables that then are empty.

        Args:
            text: all of it.
            path: of the value.
            above: how many tables on the way to it stay, empty or not.
        """

    def is_empty(self, text: str) -> bool:
        """Whether a text sets nothing."""
