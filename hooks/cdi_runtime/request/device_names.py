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
_MAX_DIGITS = 6

_DIGITS = "0123456789"
_HEX = "0123456789abcdefABCDEF"
_UUID = (8, 4, 4, 4, 12)


class RequestError(HookError):
    """What a container asks for makes no sense, or it may not ask for it."""


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
        raise RequestError(f"{source} is longer than {most} bytes")
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
            raise RequestError(f"{source[:MAX_SHOWN]} lists more than {MAX_WORDS} devices")
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
    if _is_uuid(word) or is_qualified(word) or _is_of_strategy(word):
        return word
    gpu, colon, instance = word.partition(":")
    if _is_number(gpu) and (not colon or _is_number(instance)):
        return f"{int(gpu)}:{int(instance)}" if colon else str(int(gpu))
    address = _pci_name(word)
    if address:
        return address
    if named is not None and named(word):
        return word
    raise RequestError(
        f"{source}: {shown(word)[:80]} is no device: not all, none, void, an index, GPU:MIG, "
        f"a UUID, a PCI address or vendor/class=name{quoted(word)}"
    )


def _is_number(word: str) -> bool:
    return 0 < len(word) <= _MAX_DIGITS and not word.strip(_DIGITS)


def _is_hex(word: str, length: int) -> bool:
    return len(word) == length and not word.strip(_HEX)


def _is_uuid(word: str) -> bool:
    prefix, _, rest = word.partition("-")
    prefix = prefix.upper()
    if prefix == "MIG" and rest[:4].upper() == "GPU-":
        uuid, *instances = rest[4:].split("/")
        return _is_hex_groups(uuid) and len(instances) == 2 and all(map(_is_number, instances))
    return prefix in {"GPU", "MIG"} and _is_hex_groups(rest)


def _is_hex_groups(word: str) -> bool:
    groups = word.split("-")
    return len(groups) == len(_UUID) and all(map(_is_hex, groups, _UUID))


def _is_of_strategy(word: str) -> bool:
    if word.startswith("gpu"):
        return _is_number(word[3:])
    if word.startswith("mig"):
        gpu, _, instance = word[3:].partition(":")
        return _is_number(gpu) and _is_number(instance)
    if word.startswith("pci-"):
        domain, *rest = word[4:].split("-")
        return _pci_parts(domain, rest)
    return False


def _pci_name(word: str) -> str | None:
    """`pci-0000-3b-00-0` for `3b:00.0`, `0000:3b:00.0` or NVML's `00000000:3B:00.0`."""
    address, _, function = word.lower().partition(".")
    parts = address.split(":")
    domain = parts.pop(0) if len(parts) == 3 else "0000"
    if not _pci_parts(domain, [*parts, function]):
        return None
    return "-".join(["pci", f"{int(domain, 16):04x}", *parts, function])


def _pci_parts(domain: str, rest: list[str]) -> bool:
    return (
        4 <= len(domain) <= 8
        and not domain.strip(_HEX)
        and len(rest) == 3
        and all(map(_is_hex, rest, (2, 2, 1)))
    )
