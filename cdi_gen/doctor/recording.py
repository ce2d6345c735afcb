# SPDX-License-Identifier: Apache-2.0
"""Records each answer of the host, so that the checks can run again on the record.

An answer is a JSON value, or the exception that the question raised. Each question is asked once.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from cdi_gen.doctor.check import NotApplicable, Unseen
from cdi_gen.errors import CdiGenError, NoDriverError

Json = Any
Answer = dict[str, Json]
"""``{"value": …}``, ``{"unseen": [reason, fix]}``, ``{"notApplicable": reason}`` or ``{"error":
{…}}``."""

MISSING = Unseen(
    "the report does not contain what this check examines",
    "make a new report on the host: sudo cdi-gen doctor --report FILE",
)


class Recording:
    """The answers by the kind of the question and its key: ``("read", "/proc/modules")``."""

    def __init__(self, answers: dict[str, dict[str, Answer]] | None = None) -> None:
        """Create a recording.

        Args:
            answers: the answers of a report; no other question has an answer. None: of a host.
        """
        self.answers: dict[str, dict[str, Answer]] = {} if answers is None else answers
        self.is_replay = answers is not None

    def ask(self, kind: str, key: str, compute: Callable[[], Json]) -> Json:
        """Return the recorded answer; compute and record it if it is asked for the first time.

        Raises:
            Unseen: this user cannot see the answer, or the report does not have it.
            NotApplicable: the host has nothing of the kind.
            CdiGenError: as ``compute``.
        """
        answers = self.answers.setdefault(kind, {})
        if key not in answers:
            if self.is_replay:
                raise MISSING
            answers[key] = _answer(compute)
        return _value(answers[key])


def _answer(compute: Callable[[], Json]) -> Answer:
    try:
        return {"value": compute()}
    except Unseen as unseen:
        return {"unseen": [unseen.reason, unseen.fix]}
    except NotApplicable as reason:
        return {"notApplicable": str(reason)}
    except CdiGenError as error:
        finding = error.finding.fields() | {"noDriver": isinstance(error, NoDriverError)}
        return {"error": finding}


def _value(answer: Answer) -> Json:
    if "value" in answer:
        return answer["value"]
    if "unseen" in answer:
        reason, fix = answer["unseen"]
        raise Unseen(reason, fix)
    if "notApplicable" in answer:
        raise NotApplicable(answer["notApplicable"])
    error = answer["error"]
    kind = NoDriverError if error["noDriver"] else CdiGenError
    raise kind(
        error["message"], hint=error["fix"] or None, code=error["code"], subject=error["subject"]
    )


def text_form(content: bytes) -> Json:
    """Return bytes as a JSON value: text, which redaction can read, if they are UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode("ascii")}


def bytes_of(value: Json) -> bytes:
    """Return the bytes of a value of `text_form`."""
    return value.encode("utf-8") if isinstance(value, str) else base64.b64decode(value["base64"])
