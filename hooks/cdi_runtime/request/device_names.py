# SPDX-License-Identifier: Apache-2.0
"""Reads the names by which a container requests devices, and lists of them.

| word | meaning |
|---|---|
| `all` | all GPUs |
| `none` | the driver's files, without a device |
| `void` | nothing at all, whatever else is in the list |
| `0` | a GPU, by its index |
| `0:1` | a MIG device, by its GPU's index and its own |
| `GPU-…` | a GPU, by its complete UUID |
| `MIG-…`, `MIG-GPU-…/1/0` | a MIG device, by its UUID, of drivers since 470 and before |
| `0000:3b:00.0` | a GPU, by its PCI address |
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
"""The size of one list. A pod with 100 time slices of each MIG device of 16 GPUs has 11,200 words
of 41 bytes."""
MAX_SHORT = 4096
"""The size of a list whose words are not devices."""
MAX_WORDS = 16_384
"""The number of different words in all lists together; there are 2048 IMEX channels."""
MAX_SHOWN = 200


class RequestError(HookError):
    """The request is invalid, or the container is not allowed to make it."""

    code = "CDG-R101"


def hint_about_quotes(word: str) -> str:
    """Return a hint if a word has quotes, which a shell removes and other readers do not."""
    has_quotes = word[:1] in {"'", '"'} or word[-1:] in {"'", '"'}
    return (
        "; the quotes are part of the value: an --env-file and an environment list of Compose keep "
        "them"
        if has_quotes
        else ""
    )


def words(text: str, source: str, most: int = MAX_BYTES) -> list[str]:
    """Return the words of a comma-separated list, each once, without blanks and empty words.

    Raises:
        RequestError: the list is too long.
    """
    if len(text) > most or len(text.encode("utf-8", "surrogatepass")) > most:
        raise RequestError(f"{source} is longer than {most} bytes", code="CDG-R102")
    return distinct(filter(None, map(str.strip, text.split(","))), source)


def distinct(all_words: Iterable[str], source: str) -> list[str]:
    """Return each word once, in order of first occurrence; time slices repeat a device's name.

    Raises:
        RequestError: there are more words than a host can have devices.
    """
    unique: dict[str, None] = {}
    for word in all_words:
        unique[word] = None
        if len(unique) > MAX_WORDS:
            raise RequestError(
                f"{source[:MAX_SHOWN]} lists more than {MAX_WORDS} devices", code="CDG-R102"
            )
    return [*unique]


def devices(
    requested: list[str], source: str, is_device_name: Callable[[str], bool] | None = None
) -> tuple[str, ...]:
    """Return the devices of a list of words, each once, in their order; () for no request.

    `void` anywhere in the list means no request. The first `all` or `none` replaces all other words
    except CDI names.

    Args:
        requested: the words.
        source: where the words are from, for messages.
        is_device_name: whether a word in another form may be a device's name in a spec; None: it
            may not.

    Raises:
        RequestError: a word has none of the forms.
    """
    # libnvidia-container accepts `ALL` too.
    lower_case = [word.lower() for word in requested]
    if VOID in lower_case:
        return ()
    special = next((word for word in lower_case if word in {ALL, NONE}), None)
    others = [word for word in requested if word.lower() not in {ALL, NONE}]
    names = dict.fromkeys(device(word, source, is_device_name) for word in others)
    if special is None:
        return tuple(names)
    return (special, *filter(is_qualified, names))


def device(word: str, source: str, is_device_name: Callable[[str], bool] | None = None) -> str:
    """Return the device's name as specs have it; a UUID keeps its case.

    Raises:
        RequestError: the word has none of the forms.
    """
    if nvidia.uuid(word) or is_qualified(word) or _is_name_of_strategy(word):
        return word
    numbers = [nvidia.number(part) for part in word.split(":")]
    if len(numbers) <= 2 and None not in numbers:
        return ":".join(map(str, numbers))
    address = nvidia.pci_name(word)
    if address:
        return address
    if is_device_name is not None and is_device_name(word):
        return word
    raise RequestError(
        f"{source}: {shown(word)[:80]} is not a device: use all, none, void, an index, GPU:MIG, "
        f"a UUID, a PCI address or vendor/class=name{hint_about_quotes(word)}"
    )


def _is_name_of_strategy(word: str) -> bool:
    """Whether a word is a device's name of one of cdi-gen's device name strategies."""
    if word.startswith("gpu"):
        return nvidia.number(word[3:]) is not None
    if word.startswith("mig"):
        return None not in map(nvidia.number, word[3:].partition(":")[::2])
    return nvidia.is_pci_name(word)
