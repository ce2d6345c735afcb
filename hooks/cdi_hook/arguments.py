# SPDX-License-Identifier: Apache-2.0
"""Parses the command line: `--option value` or `--option=value`, each any number of times."""

from __future__ import annotations

from cdi_base.errors import UsageError, shown

Options = dict[str, list[str]]


def parse(words: list[str], names: tuple[str, ...], switches: tuple[str, ...] = ()) -> Options:
    """Collect the values of each option, in order; a switch has one empty value if it is given.

    Raises:
        UsageError: an option is unknown, a word is not an option, or a value is missing.
    """
    options: Options = {name: [] for name in (*names, *switches)}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name not in options:
            raise UsageError(f"unknown option or unexpected word {shown(word)}")
        if name in switches:
            if equals:
                raise UsageError(f"{name} takes no value")
        elif not equals:
            following = next(rest, None)
            if following is None:
                raise UsageError(f"{name} needs a value")
            value = following
        options[name].append(value)
    return options


def last(values: list[str]) -> str | None:
    """Return the value that counts if an option is given more than once."""
    return values[-1] if values else None


def checked_path(text: str) -> str:
    """Return an absolute path in the container without its trailing slash.

    Raises:
        UsageError: the path is not absolute, is longer than the kernel allows, has a `..`, or has a
            control character, which would be written to a configuration file.
    """
    if not text.startswith("/"):
        raise UsageError(f"{shown(text)} is not an absolute path")
    check_text(text)
    if ".." in text.split("/"):
        raise UsageError(f"{shown(text)} has a '..'")
    return text.rstrip("/") or "/"


def checked_folder(text: str) -> str:
    """Return the same for a directory that is written to the configuration of a loader.

    Raises:
        UsageError: as `checked_path`, or the configuration cannot contain the name.
    """
    folder = checked_path(text)
    # In glibc `#` begins a comment, and `dir=type` has a meaning; in musl `:` is a separator.
    if set(folder) & set("#=:") or folder != folder.strip():
        raise UsageError(f"{shown(folder)}: the configuration of a loader cannot contain this name")
    return folder


def check_text(text: str) -> None:
    """Reject paths that no driver has: with control characters, or longer than 4096 bytes.

    Raises:
        UsageError: the path is empty, too long or has a control character.
    """
    # The first test, in C, decides for nearly every path.
    is_plain = text.isascii() and text.isprintable()
    if not text or len(text) > 4096 or not (is_plain or _has_no_control_character(text)):
        raise UsageError(f"{shown(text)} is empty, too long or has a control character")


def _has_no_control_character(text: str) -> bool:
    return all(ord(char) >= 32 and ord(char) != 127 for char in text)
