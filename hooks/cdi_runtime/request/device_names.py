# SPDX-License-Identifier: Apache-2.0
"""The names by which a container asks for devices, and lists of them.

| word | what it is |
|---|---|
| `all` | each GPU |
| `none` | the driver's files, and no device |
| `void` | nothing at all, whatever else is in the list |
| `0` | a GPU's index |
| `0:1` | a MIG device, by its GPU's index and its own |
| `GPU-…` | a GPU's UUID, whole |
| `MIG-…`, `MIG-GPU-…/1/0` | a MIG device's UUID, of drivers since 470 and before |
| `0000:3b:00.0` | a GPU's PCI address |
| `gpu0`, `mig0:1`, `pci-0000-3b-00-0` | a device's name in a spec of `--device-name-strategy` |
| `vendor/class=name` | a CDI device |
"""

from __future__ import annotations

from cdi_base import nvidia
from cdi_base.cdi.names import is_qualified
from cdi_base.errors import HookError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ALL, NONE, VOID = "all", "none", "void"
MAX_BYTES = 1 << 20
"""Of one list. A pod with 100 time slices of each MIG device of 16 GPUs has 11,200 words of 41."""
MAX_SHORT = 4096
"""Of a list whose words are no devices."""
MAX_WORDS = 16_384
"""Of all that is asked for, each word once; there are 2048 IMEX channels."""
MAX_SHOWN = 200


class RequestError(HookError):
    """What a container asks for makes no sense, or it may not ask for it."""

    code = "CDG-R101"


def quoted(word: str) -> str:
    """What to say more of a word in quotes: a shell takes them away, other files do not."""
    is_so = word[:1] in {"'", '"'} or word[-1:] in {"'", '"'}
    return (
        "; its quotes are part of it, as in an --env-file or a list of compose's" if is_so else ""
    )


def words(text: str, source: str, most: int = MAX_BYTES) -> list[str]:
    """The words between commas, without blanks, each once; empty ones are dropped.

    Raises:
        RequestError: there are more than any list should have.
    """
    if len(text) > most or len(text.encode("utf-8", "surrogatepass")) > most:
        raise RequestError(f"{source} is longer than {most} bytes", code="CDG-R102")
    return distinct(filter(None, map(str.strip, text.split(","))), source)


def distinct(several: Iterable[str], source: str) -> list[str]:
    """Each word once, in the order of their first; a time slice of a device is that device.

    Raises:
        RequestError: there are more of them than any host has devices.
    """
    found: dict[str, None] = {}
    for word in several:
        found[word] = None
        if len(found) > MAX_WORDS:
            raise RequestError(
                f"{source[:MAX_SHOWN]} lists more than {MAX_WORDS} devices", code="CDG-R102"
            )
    return [*found]


def devices(
    asked: list[str], source: str, named: Callable[[str], bool] | None = None
) -> tuple[str, ...]:
    """The devices of a list's words, each once, in their order; () where nothing is asked for.

    `void` anywhere makes it nothing. The first `all` or `none` stands in place of all words but CDI
    names, which are of other kinds.

    Args:
        asked: the words.
        source: where they are from, for people.
        named: says of a word that is in no form whether it may be a device's name.

    Raises:
        RequestError: a word is in no form.
    """
    # libnvidia-container takes `ALL` too.
    lower = [word.lower() for word in asked]
    if VOID in lower:
        return ()
    special = next((word for word in lower if word in {ALL, NONE}), None)
    others = [word for word in asked if word.lower() not in {ALL, NONE}]
    names = dict.fromkeys(device(word, source, named) for word in others)
    if special is None:
        return tuple(names)
    return (special, *filter(is_qualified, names))


def device(word: str, source: str, named: Callable[[str], bool] | None = None) -> str:
    """The device's name as specs have it; a UUID is kept as it is written.

    Raises:
        RequestError: it is in none of the forms.
    """
    if nvidia.uuid(word) or is_qualified(word) or _is_of_strategy(word):
        return word
    numbers = [nvidia.number(part) for part in word.split(":")]
    if len(numbers) <= 2 and None not in numbers:
        return ":".join(map(str, numbers))
    address = nvidia.pci_name(word)
    if address:
        return address
    if named is not None and named(word):
        return word
    raise RequestError(
        f"{source}: {shown(word)[:80]} is no device: not all, none, void, an index, GPU:MIG, "
        f"a UUID, a PCI address or vendor/class=name{quoted(word)}"
    )


def _is_of_strategy(word: str) -> bool:
    if word.startswith("gpu"):
        return nvidia.number(word[3:]) is not None
    if word.startswith("mig"):
        return None not in map(nvidia.number, word[3:].partition(":")[::2])
    return nvidia.is_pci_name(word)
