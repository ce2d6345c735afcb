# SPDX-License-Identifier: Apache-2.0
"""The command line: `--option value` or `--option=value`, each as often as wanted."""

from __future__ import annotations

from cdi_hook.faults import UsageError, shown

Options = dict[str, list[str]]


def parse(words: list[str], known: tuple[str, ...]) -> Options:
    """Collect the values of each option, in order.

    Raises:
        UsageError: an option that is not in `known`, a stray word, or a value that is missing.
    """
    options: Options = {name: [] for name in known}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name not in options:
            raise UsageError(f"unknown option or stray word {shown(word)}")
        if not equals:
            following = next(rest, None)
            if following is None:
                raise UsageError(f"{name} needs a value")
            value = following
        options[name].append(value)
    return options


def checked_path(text: str) -> str:
    """An absolute path in the container, without its trailing slash.

    Raises:
        UsageError: a path that is not absolute, is longer than the kernel takes, climbs with `..`,
            or holds a control character (it would end up in a configuration file).
    """
    if not text.startswith("/"):
        raise UsageError(f"{shown(text)} is not an absolute path")
    check_text(text)
    if ".." in text.split("/"):
        raise UsageError(f"{shown(text)} holds a '..'")
    return text.rstrip("/") or "/"


def check_text(text: str) -> None:
    """Refuse what no path of a driver holds (R-B8): control characters, or more than 4096 bytes."""
    if not text or len(text) > 4096 or any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise UsageError(f"{shown(text)} is empty, too long or holds a control character")
