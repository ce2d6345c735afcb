# SPDX-License-Identifier: Apache-2.0
"""The file of ``cdi-gen doctor --report``: the answers of a host, for checks on another one.

It has what the checks asked (files, directories, programs' output, the inventory, specs, statuses
of engines) and the results, all of it redacted. Checks run again on it: `Recording`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from cdi_base import VERSION, strict_json
from cdi_gen.doctor.host import Host
from cdi_gen.doctor.recording import Answer
from cdi_gen.doctor.redaction import Redaction
from cdi_gen.errors import CdiGenError

MAX_BYTES = 64 << 20
FORMAT = 1
KIND = "cdi-gen doctor report"
FIRST_USER, LAST_USER = 1000, 60000
"""The numbers of ordinary users (UID_MIN and UID_MAX of login.defs)."""

_ANSWERS = frozenset({"value", "unseen", "notApplicable", "error"})
_FIELDS_OF_ERROR = frozenset(
    {"code", "severity", "subject", "message", "fix", "source", "noDriver"}
)

Answers = dict[str, dict[str, Answer]]


def redaction(host: Host) -> Redaction:
    """Return the redaction of a report or an output about a host.

    Args:
        host: its names and users are read now; they are not part of the record.
    """
    if host.recording.is_replay:
        return Redaction()
    return Redaction(_host_names(host), _user_names(host))


def _host_names(host: Host) -> Iterator[str]:
    yield os.uname().nodename
    for path in ("/etc/hostname", "/proc/sys/kernel/hostname"):
        yield from _text(host, path).split()


def _user_names(host: Host) -> Iterator[str]:
    for name in ("USER", "LOGNAME", "SUDO_USER"):
        yield os.environ.get(name, "")
    for line in _text(host, "/etc/passwd").splitlines():
        fields = line.split(":")
        if len(fields) > 4 and fields[2].isdecimal():
            number = int(fields[2])
            if FIRST_USER <= number < LAST_USER:
                yield fields[0]
                yield fields[4].partition(",")[0]


def _text(host: Host, path: str) -> str:
    try:
        return host.root.read_text(path)
    except OSError:
        return ""


def text(host: Host, results: dict[str, Any]) -> str:
    """Return the text of a report.

    Args:
        host: the host, after the checks have run.
        results: the results, as in the JSON output.
    """
    answers = host.recording.answers
    # Names are found first in what the user sees.
    document = redaction(host).value({"results": results, "answers": answers})
    head = {"kind": KIND, "formatVersion": FORMAT, "version": VERSION}
    return json.dumps(head | dict(document), indent=1, ensure_ascii=False) + "\n"  # type: ignore[call-overload]


def answers(content: bytes, name: str) -> Answers:
    """Return the answers of a report, or those that an inventory gives.

    Args:
        content: of the file, which may be a stranger's.
        name: of the file, for messages.

    Raises:
        CdiGenError: the content is neither.
    """
    if len(content) > MAX_BYTES:
        raise _neither(name, f"it has more than {MAX_BYTES >> 20} MiB")
    try:
        document = strict_json.parse(content.decode("utf-8"))
    except (UnicodeDecodeError, strict_json.JSONError) as error:
        raise _neither(name, str(error)) from error
    if not isinstance(document, dict) or "formatVersion" not in document:
        raise _neither(name, "the file has no formatVersion")
    if document.get("kind") != KIND:
        return {"inventory": {"": {"value": document}}}
    if document["formatVersion"] != FORMAT:
        raise _neither(name, f"this version of cdi-gen reads reports of format {FORMAT}")
    return _checked(document.get("answers"), name)


def _checked(answers: object, name: str) -> Answers:
    """Return the answers if each has the form of an answer.

    Raises:
        CdiGenError: one has another form.
    """
    if isinstance(answers, dict) and all(
        isinstance(by_key, dict) and all(map(_is_answer, by_key.values()))
        for by_key in answers.values()
    ):
        return answers
    raise _neither(name, "its answers have another form than those of a report")


def _is_answer(answer: object) -> bool:
    if not isinstance(answer, dict) or len(answer) != 1 or not answer.keys() <= _ANSWERS:
        return False
    ((kind, value),) = answer.items()
    if kind == "unseen":
        return isinstance(value, list) and [type(part) for part in value] == [str, str]
    if kind == "notApplicable":
        return isinstance(value, str)
    if kind == "error":
        return (
            isinstance(value, dict)
            and value.keys() == _FIELDS_OF_ERROR
            and all(isinstance(value[field], str) for field in _FIELDS_OF_ERROR - {"noDriver"})
        )
    return True


def _neither(name: str, reason: str) -> CdiGenError:
    return CdiGenError(
        f"{name} is neither a report nor an inventory: {reason}",
        hint="make one on the host: sudo cdi-gen doctor --report FILE",
        code="CDG-I001",
        subject=name,
    )
