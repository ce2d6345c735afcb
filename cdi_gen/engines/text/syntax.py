# SPDX-License-Identifier: Apache-2.0
"""The interface to edit one value of a text, whatever the syntax of the text is."""

from __future__ import annotations

from typing import Any, Protocol

Path = tuple[str, ...]

UTF_8_HINT = "save the file as UTF-8 without a byte order mark"
"""The hint about a file of an editor that writes another encoding, as those of Windows do."""


class Syntax(Protocol):
    """A syntax of configuration files. Each function except `value` and `written` may raise.

    Raises:
        CdiGenError: the text has another syntax, or cannot be changed as requested.
    """

    def check(self, text: str) -> None:
        """Raise an error if a text does not have this syntax."""

    def find(self, text: str, path: Path) -> str | None:
        """The text of the value at a path; None if there is no value."""

    def value(self, written: str) -> Any:
        """The value of a value's text, for comparisons."""

    def put(self, text: str, path: Path, new_value: str) -> str:
        """The text with a value, given as its text, at a path."""

    def written(self, value: Any) -> str:
        """The text of a value."""

    def remove(self, text: str, path: Path, above: int) -> str:
        """The text without the value at a path, and without the tables that are empty then.

        Args:
            text: the whole text.
            path: the path of the value.
            above: the number of tables above the value that stay, empty or not.
        """

    def is_empty(self, text: str) -> bool:
        """Whether a text sets nothing."""
