# SPDX-License-Identifier: Apache-2.0
"""NVIDIA_REQUIRE_*: what an image asks of the host's driver and GPUs, and whether the host has it.

An expression is alternatives, separated by spaces; one of them has to hold. An alternative is
conditions, separated by commas; all of them have to hold. A condition is a property, an operator
and a value: `cuda>=12.4 brand=tesla,driver>=470,driver<471`. Of several variables each has to hold.

| property | is | operators |
|---|---|---|
| cuda | the newest CUDA version that the driver runs | = != < <= > >= |
| driver | the driver's version | the same |
| arch | the compute capability of a GPU; a MIG device's is its GPU's | the same |
| brand | NVML's name for a GPU's brand, whatever its case | = != |

Versions are compared as `versions` says. An expression is asked of
each GPU by itself; where there is none, conditions on arch and brand hold. All of this is as in
libnvidia-container (src/cli/dsl.c and configure.c), except that

* a condition that cannot be read, or has a property of another name, is one that does not hold:
  there it is an error, but only if no earlier alternative holds;
* where a fact of the host is not known, a condition on it holds if nothing else decides, and the
  caller gets a line to say so: there it holds silently.
"""

from __future__ import annotations

from cdi_base import versions
from cdi_base.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cdi_base.versions import Version

    Alternative = tuple["Condition", ...]

Requirements = tuple[tuple[str, str], ...]
"""Names of variables, and the expression that each holds."""

PREFIX = "NVIDIA_REQUIRE_"
JETPACK = "NVIDIA_REQUIRE_JETPACK"
"""How names begin whose requirements are those of Jetson boards, in words of their own."""
DISABLE = "NVIDIA_DISABLE_REQUIRE"
CUDA_VERSION = "CUDA_VERSION"
NAMES = (PREFIX, f"{DISABLE}=", f"{CUDA_VERSION}=")
"""How the entries of an environment begin that requirements are read from."""
TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
"""What Go's `strconv.ParseBool` takes for true, and so do all programs of NVIDIA's."""

SIGNS = "<>=!"
OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
OF_BRANDS = ("=", "!=")
VERSIONS = ("cuda", "driver", "arch")

MAX_EXPRESSION = 128 << 10
"""No program can be given a longer variable (MAX_ARG_STRLEN of Linux)."""
MAX_EXPRESSIONS = 256 << 10
"""Of all together: a second's work on a host of 16 GPUs. CUDA's own images have 2 KiB."""
MAX_DIGITS = 19
"""Of one number of a version: no more fit the 64 bits that libnvidia-container has for it."""
MAX_ALTERNATIVES = 6
MAX_TEXT = 80
"""What a message shows of an expression: that many alternatives, and characters of each."""


class UnsatisfiedError(HookError):
    """The host is not what the image requires."""

    code = "CDG-R801"


class GpuFacts:
    """What is known of one GPU; None where it is not.

    `arch` is its compute capability (`9.0`), `brand` NVML's word in lower case (`unknown` is one of
    them). `name` is what messages call it.
    """

    __slots__ = ("arch", "brand", "index", "minor", "name", "uuid")

    def __init__(
        self,
        arch: str | None = None,
        brand: str | None = None,
        name: str = "GPU",
        *,
        index: int | None = None,
        minor: int | None = None,
        uuid: str | None = None,
    ) -> None:
        self.arch = arch
        self.brand = brand
        self.name = name
        self.index = index
        self.minor = minor
        self.uuid = uuid


class Facts:
    """What is known of the host; None where it is not. `gpus` are those that the container gets."""

    __slots__ = ("cuda", "driver", "gpus")

    def __init__(
        self,
        cuda: str | None = None,
        driver: str | None = None,
        gpus: Iterable[GpuFacts] = (),
    ) -> None:
        self.cuda = cuda
        self.driver = driver
        self.gpus = tuple(gpus)

    @classmethod
    def from_document(cls, document: Mapping[str, object]) -> Facts:
        """Of a JSON object as `cdi_gen.generate.requirements` makes it; fields may be absent.

        Raises:
            HookError: it has another form.
        """
        listed = document.get("gpus", [])
        if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
            raise HookError("the host's facts: 'gpus' is no list of objects", code="CDG-R803")
        return cls(
            _text(document, "cuda"), _text(document, "driver"), [_gpu(each) for each in listed]
        )

    def of_nodes(self, minors: Iterable[int]) -> Facts:
        """The same host, with the GPUs whose nodes /dev/nvidiaN a container has."""
        known = {gpu.minor: gpu for gpu in self.gpus}
        found = [
            known.get(minor) or GpuFacts(name=f"/dev/nvidia{minor}", minor=minor)
            for minor in minors
        ]
        return Facts(self.cuda, self.driver, found)

    def __str__(self) -> str:
        known = [("cuda", self.cuda), ("driver", self.driver)]
        for gpu in self.gpus:
            known += [(f"{gpu.name} arch", gpu.arch), (f"{gpu.name} brand", gpu.brand)]
        return ", ".join(f"{what} {value or 'unknown'}" for what, value in known)


def from_environment(environment: Mapping[str, str]) -> Requirements:
    """The requirements in a container's environment, by name; none where they are switched off.

    An image of CUDA before 9 has CUDA_VERSION (`8.0.61`) in the place of NVIDIA_REQUIRE_CUDA.
    """
    if environment.get(DISABLE) in TRUE:
        return ()
    found = [
        (name, value)
        for name, value in environment.items()
        if name.startswith(PREFIX) and not name.startswith(JETPACK) and value
    ]
    if not environment.get(f"{PREFIX}CUDA"):
        made_for = version(environment.get(CUDA_VERSION, "").removeprefix("v"))
        if made_for is not None:
            major, minor = (*made_for, 0, 0)[:2]
            found.append((CUDA_VERSION, f"cuda>={major}.{minor}"))
    return tuple(sorted(found))


def check(requirements: Requirements, facts: Facts) -> tuple[str, ...]:
    """Whether the host has what is required.

    Args:
        requirements: see `from_environment`.
        facts: the host's, with the GPUs that the container gets.

    Returns:
        A line for each requirement that holds only if what is not known is so.

    Raises:
        UnsatisfiedError: a requirement does not hold; one line, with the reason for each
            alternative and what the host has.
    """
    doubts = []
    for name, expression in requirements:
        if len(expression) > MAX_EXPRESSION:
            raise UnsatisfiedError(
                f"{_cut(name)} is longer than {MAX_EXPRESSION} characters", code="CDG-R802"
            )
    if sum(len(name) + len(expression) for name, expression in requirements) > MAX_EXPRESSIONS:
        raise UnsatisfiedError(
            f"{PREFIX}*: all together are longer than {MAX_EXPRESSIONS} characters; "
            f"use another image, or set {DISABLE}=1",
            code="CDG-R802",
        )
    for name, expression in requirements:
        alternatives = parse(expression)
        for gpu in facts.gpus or (None,):
            verdicts = [_verdict(each, facts, gpu) for each in alternatives]
            if not verdicts or any(holds for holds, _ in verdicts):
                continue
            unknown = [condition for holds, condition in verdicts if holds is None]
            if not unknown:
                failing = [condition for _, condition in verdicts]
                raise UnsatisfiedError(_message(name, alternatives, failing, facts, gpu))
            what = f"{gpu.name}'s" if gpu and unknown[0].is_of_a_gpu() else "this host's"
            doubts.append(
                f"{_cut(name)}: not checked: {_cut(unknown[0].text)}: "
                f"{what} {unknown[0].property} is not known"
            )
    return tuple(dict.fromkeys(doubts))


class Condition:
    """One condition of an expression: `driver>=470`.

    `place` counts its characters from 1; `fault` says why no host can have what it asks for.
    """

    __slots__ = ("_test", "fault", "operator", "place", "property", "text")

    def __init__(self, text: str, place: int) -> None:
        name = text
        for sign in SIGNS:
            name = name.partition(sign)[0]
        rest = text[len(name) :]
        value = rest.lstrip(SIGNS)
        self.text = text
        self.place = place
        self.property = name.lower()
        self.operator = rest[: len(rest) - len(value)]
        self.fault: str | None = None
        self._test: Callable[[str], bool | None] = _no_test
        if not name or self.operator not in OPERATORS or not value:
            self.fault = "is not a property, one of = != < <= > >=, and a value"
        elif self.property == "brand":
            self._test = _brand_test(self.operator, value.lower())
            if self.operator not in OF_BRANDS:
                self.fault = "compares a brand by other than = and !="
        elif self.property in VERSIONS:
            wanted = version(value)
            if wanted is None:
                self.fault = "compares with what is no version"
            else:
                self._test = _version_test(self.operator, wanted)
        else:
            self.fault = "is of none of the properties cuda, driver, arch and brand"

    def holds(self, facts: Facts, gpu: GpuFacts | None) -> bool | None:
        """Whether the host, or the GPU, has it; None if that is not known."""
        if self.fault:
            return False
        if gpu is None and self.is_of_a_gpu():
            return True
        value = self.value(facts, gpu)
        return None if value is None else self._test(value)

    def is_of_a_gpu(self) -> bool:
        """Whether it asks for a GPU's property rather than the host's."""
        return self.property in {"arch", "brand"}

    def value(self, facts: Facts, gpu: GpuFacts | None) -> str | None:
        """What there is of its property."""
        if self.property == "cuda":
            return facts.cuda
        if self.property == "driver":
            return facts.driver
        if gpu is None:
            return None
        return gpu.arch if self.property == "arch" else gpu.brand

    def wants_more(self) -> bool:
        """Whether a newer driver could have it."""
        return not self.fault and not self.is_of_a_gpu() and self.operator in {">", ">="}


def parse(expression: str) -> tuple[Alternative, ...]:
    """The alternatives of an expression; what has no condition is none."""
    found = []
    place = 1
    for alternative in expression.split(" "):
        conditions = []
        for text in alternative.split(","):
            if text:
                conditions.append(Condition(text, place))
            place += len(text) + 1
        if conditions:
            found.append(tuple(conditions))
    return tuple(found)


def _verdict(
    alternative: Alternative, facts: Facts, gpu: GpuFacts | None
) -> tuple[bool | None, Condition]:
    """Whether an alternative holds, None if that is not known; and the condition that decides."""
    unknown = None
    for condition in alternative:
        holds = condition.holds(facts, gpu)
        if holds is False:
            return False, condition
        if holds is None and unknown is None:
            unknown = condition
    return (None, unknown) if unknown else (True, alternative[-1])


def _version_test(operator: str, wanted: Version) -> Callable[[str], bool | None]:
    def test(text: str) -> bool | None:
        found = version(text)
        if found is None:
            return None
        if found == wanted:
            return operator in {"=", "<=", ">="}
        return operator in ({"!=", "<", "<="} if found < wanted else {"!=", ">", ">="})

    return test


def _brand_test(operator: str, wanted: str) -> Callable[[str], bool | None]:
    return lambda found: (found.lower() == wanted) == (operator == "=")


def _no_test(_value: str) -> bool | None:
    return None


def version(text: str) -> Version | None:
    """Return the numbers of a version as libnvidia-container reads it; None if it is not one.

    Unlike `versions.parse` it takes any count of numbers, and passes over what is empty between
    two dots or after the last: `12..3` is 12.3.
    """
    if not text or text.startswith(".") or text.strip("0123456789."):
        return None
    parts = [part for part in text.split(".") if part]
    if any(len(part) > MAX_DIGITS for part in parts):
        return None
    return versions.normal(map(int, parts))


def _message(
    name: str,
    alternatives: tuple[Alternative, ...],
    failing: list[Condition],
    facts: Facts,
    gpu: GpuFacts | None,
) -> str:
    """Why no alternative holds and what would help; the first, then those that came nearest."""
    pairs = list(zip(alternatives, failing))
    pairs[1:] = sorted(pairs[1:], key=lambda pair: -pair[0].index(pair[1]))
    reasons = [_reason(*pair, facts, gpu) for pair in pairs[:MAX_ALTERNATIVES]]
    if len(pairs) > len(reasons):
        reasons.append(f"{len(pairs) - len(reasons)} more")
    if any(condition.wants_more() for condition in failing):
        advice = "update the driver"
    elif any(condition.fault for condition in failing):
        advice = "correct it"
    else:
        advice = "use another image"
    whole = "; or ".join(reasons)
    return f"{_cut(name)} is not satisfied: {whole}; {advice}, or set {DISABLE}=1"


def _reason(
    alternative: Alternative, condition: Condition, facts: Facts, gpu: GpuFacts | None
) -> str:
    whole = ",".join(each.text for each in alternative)
    if condition.fault:
        return f"{_cut(condition.text)} (at character {condition.place}) {condition.fault}"
    whose = gpu.name if gpu and condition.is_of_a_gpu() else "this host"
    has = f"({whose}: {condition.value(facts, gpu)})"
    if len(alternative) == 1:
        return f"{_cut(whole)} {has}"
    return f"{_cut(whole)}: {_cut(condition.text)} {has}"


def _cut(text: str) -> str:
    """A piece of an expression, fit for a terminal and a log."""
    escaped = ascii(text[: MAX_TEXT + 1])[1:-1]
    return f"{escaped[:MAX_TEXT]}..." if len(escaped) > MAX_TEXT else escaped


def _gpu(document: dict[str, object]) -> GpuFacts:
    index, minor = (_number(document, key) for key in ("index", "minor"))
    name = "GPU" if index is None else f"GPU {index}"
    arch, brand, uuid = (_text(document, key) for key in ("arch", "brand", "uuid"))
    return GpuFacts(arch, brand, name, index=index, minor=minor, uuid=uuid)


def _text(document: Mapping[str, object], key: str) -> str | None:
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        raise HookError(f"the host's facts: {key!r} is not text", code="CDG-R803")
    return value


def _number(document: dict[str, object], key: str) -> int | None:
    value = document.get(key)
    if value is not None and not isinstance(value, int):
        raise HookError(f"the host's facts: {key!r} is not a number", code="CDG-R803")
    return value
