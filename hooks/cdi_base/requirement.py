# SPDX-License-Identifier: Apache-2.0
"""Evaluates NVIDIA_REQUIRE_*: an image's requirements on the host's driver and GPUs.

An expression consists of alternatives, separated by spaces; one of them has to hold. An alternative
consists of conditions, separated by commas; all of them have to hold. A condition is a property, an
operator and a value: `cuda>=12.4 brand=tesla,driver>=470,driver<471`. If an image has several
variables, all of them have to hold.

| property | meaning | operators |
|---|---|---|
| cuda | the newest CUDA version that the driver supports | = != < <= > >= |
| driver | the driver's version | the same |
| arch | the compute capability of a GPU; a MIG device's is its GPU's | the same |
| brand | NVML's name for a GPU's brand, whatever its case | = != |

Versions are compared as in `versions`. An expression is evaluated for each GPU separately; without
a GPU, conditions on arch and brand hold. libnvidia-container (src/cli/dsl.c and configure.c) does
the same, with two differences:

* A condition that cannot be parsed, or has an unknown property, does not hold here.
  libnvidia-container reports an error, but only if no earlier alternative holds.
* A condition on an unknown fact of the host holds here if nothing else decides, and the caller gets
  a warning. In libnvidia-container it holds without a warning.
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
"""Names of variables and their expressions."""

PREFIX = "NVIDIA_REQUIRE_"
JETPACK = "NVIDIA_REQUIRE_JETPACK"
"""Prefix of the requirements on Jetson boards, which have a grammar of their own; ignored."""
DISABLE = "NVIDIA_DISABLE_REQUIRE"
CUDA_VERSION = "CUDA_VERSION"
NAMES = (PREFIX, f"{DISABLE}=", f"{CUDA_VERSION}=")
"""Prefixes of the environment entries that requirements are read from."""
TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
"""Values that Go's `strconv.ParseBool`, which NVIDIA's programs use, parses as true."""

SIGNS = "<>=!"
OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
BRAND_OPERATORS = ("=", "!=")
VERSION_PROPERTIES = ("cuda", "driver", "arch")

MAX_EXPRESSION = 128 << 10
"""The longest variable that Linux passes to a program (MAX_ARG_STRLEN)."""
MAX_EXPRESSIONS = 256 << 10
"""The largest size of all expressions: a second of work for 16 GPUs. CUDA's images have 2 KiB."""
MAX_DIGITS = 19
"""The largest number of digits in a version: libnvidia-container uses 64 bits for a number."""
MAX_ALTERNATIVES = 6
MAX_TEXT = 80
"""The largest number of alternatives, and of characters of each, that a message shows."""


class UnsatisfiedError(HookError):
    """The host does not satisfy a requirement of the image."""

    code = "CDG-R801"


class GpuFacts:
    """The known facts of one GPU; a fact that is not known is None.

    `arch` is the compute capability (`9.0`), `brand` NVML's name of the brand in lower case, which
    may be `unknown`. `name` is the name in messages.
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
    """The known facts of the host, or None; `gpus` are those that the container gets."""

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
        """Read a JSON object of `cdi_gen.generate.requirements`; fields may be absent.

        Raises:
            HookError: the object has another form.
        """
        gpus = document.get("gpus", [])
        if not isinstance(gpus, list) or not all(isinstance(gpu, dict) for gpu in gpus):
            raise HookError("the host's facts: 'gpus' is not a list of objects", code="CDG-R803")
        return cls(_text(document, "cuda"), _text(document, "driver"), [_gpu(gpu) for gpu in gpus])

    def with_nodes(self, minors: Iterable[int]) -> Facts:
        """Return the facts of the same host, with the GPUs of a container's nodes /dev/nvidiaN."""
        gpu_of_minor = {gpu.minor: gpu for gpu in self.gpus}
        gpus = [
            gpu_of_minor.get(minor) or GpuFacts(name=f"/dev/nvidia{minor}", minor=minor)
            for minor in minors
        ]
        return Facts(self.cuda, self.driver, gpus)

    def __str__(self) -> str:
        facts = [("cuda", self.cuda), ("driver", self.driver)]
        for gpu in self.gpus:
            facts += [(f"{gpu.name} arch", gpu.arch), (f"{gpu.name} brand", gpu.brand)]
        return ", ".join(f"{name} {value or 'unknown'}" for name, value in facts)


def from_environment(environment: Mapping[str, str]) -> Requirements:
    """Return the requirements in a container's environment; none if the environment disables them.

    Images of CUDA before version 9 have CUDA_VERSION (`8.0.61`) instead of NVIDIA_REQUIRE_CUDA.
    """
    if environment.get(DISABLE) in TRUE:
        return ()
    requirements = [
        (name, value)
        for name, value in environment.items()
        if name.startswith(PREFIX) and not name.startswith(JETPACK) and value
    ]
    if not environment.get(f"{PREFIX}CUDA"):
        cuda_version = version(environment.get(CUDA_VERSION, "").removeprefix("v"))
        if cuda_version is not None:
            major, minor = (*cuda_version, 0, 0)[:2]
            requirements.append((CUDA_VERSION, f"cuda>={major}.{minor}"))
    return tuple(sorted(requirements))


def check(requirements: Requirements, facts: Facts) -> tuple[str, ...]:
    """Check that the host satisfies all requirements.

    Args:
        requirements: see `from_environment`.
        facts: of the host, with the GPUs that the container gets.

    Returns:
        A line for each requirement that depends on an unknown fact.

    Raises:
        UnsatisfiedError: a requirement does not hold; one line, with the reason for each
            alternative and the facts of the host.
    """
    doubts = []
    for name, expression in requirements:
        if len(expression) > MAX_EXPRESSION:
            raise UnsatisfiedError(
                f"{_cut(name)} is longer than {MAX_EXPRESSION} characters", code="CDG-R802"
            )
    if sum(len(name) + len(expression) for name, expression in requirements) > MAX_EXPRESSIONS:
        raise UnsatisfiedError(
            f"{PREFIX}*: all expressions together are longer than {MAX_EXPRESSIONS} characters; "
            f"use another image, or set {DISABLE}=1",
            code="CDG-R802",
        )
    for name, expression in requirements:
        alternatives = parse(expression)
        for gpu in facts.gpus or (None,):
            verdicts = [_verdict(alternative, facts, gpu) for alternative in alternatives]
            if not verdicts or any(holds for holds, _ in verdicts):
                continue
            unknown = [condition for holds, condition in verdicts if holds is None]
            if not unknown:
                failing = [condition for _, condition in verdicts]
                raise UnsatisfiedError(_message(name, alternatives, failing, facts, gpu))
            owner = f"{gpu.name}'s" if gpu and unknown[0].is_of_a_gpu() else "this host's"
            doubts.append(
                f"{_cut(name)}: not checked: {_cut(unknown[0].text)}: "
                f"{owner} {unknown[0].property} is unknown"
            )
    return tuple(dict.fromkeys(doubts))


class Condition:
    """One condition of an expression: `driver>=470`.

    `position` is the character, counted from 1, at which the condition begins. `fault` is why no
    host can satisfy the condition.
    """

    __slots__ = ("_test", "fault", "operator", "position", "property", "text")

    def __init__(self, text: str, position: int) -> None:
        name = text
        for sign in SIGNS:
            name = name.partition(sign)[0]
        rest = text[len(name) :]
        value = rest.lstrip(SIGNS)
        self.text = text
        self.position = position
        self.property = name.lower()
        self.operator = rest[: len(rest) - len(value)]
        self.fault: str | None = None
        self._test: Callable[[str], bool | None] = _no_test
        if not name or self.operator not in OPERATORS or not value:
            self.fault = "is not a property, one of = != < <= > >=, and a value"
        elif self.property == "brand":
            self._test = _brand_test(self.operator, value.lower())
            if self.operator not in BRAND_OPERATORS:
                self.fault = "compares a brand by an operator other than = and !="
        elif self.property in VERSION_PROPERTIES:
            bound = version(value)
            if bound is None:
                self.fault = "has a value that is not a version"
            else:
                self._test = _version_test(self.operator, bound)
        else:
            self.fault = "has an unknown property; the properties are cuda, driver, arch and brand"

    def holds(self, facts: Facts, gpu: GpuFacts | None) -> bool | None:
        """Whether the condition holds for the host, or the GPU; None if the fact is unknown."""
        if self.fault:
            return False
        if gpu is None and self.is_of_a_gpu():
            return True
        value = self.value(facts, gpu)
        return None if value is None else self._test(value)

    def is_of_a_gpu(self) -> bool:
        """Whether the property is that of a GPU, not of the host."""
        return self.property in {"arch", "brand"}

    def value(self, facts: Facts, gpu: GpuFacts | None) -> str | None:
        """Return the value of the property on the host, or of the GPU; None if unknown."""
        if self.property == "cuda":
            return facts.cuda
        if self.property == "driver":
            return facts.driver
        if gpu is None:
            return None
        return gpu.arch if self.property == "arch" else gpu.brand

    def wants_more(self) -> bool:
        """Whether a newer driver could satisfy the condition."""
        return not self.fault and not self.is_of_a_gpu() and self.operator in {">", ">="}


def parse(expression: str) -> tuple[Alternative, ...]:
    """Return the alternatives of an expression; those without a condition are dropped."""
    alternatives = []
    position = 1
    for alternative in expression.split(" "):
        conditions = []
        for text in alternative.split(","):
            if text:
                conditions.append(Condition(text, position))
            position += len(text) + 1
        if conditions:
            alternatives.append(tuple(conditions))
    return tuple(alternatives)


def _verdict(
    alternative: Alternative, facts: Facts, gpu: GpuFacts | None
) -> tuple[bool | None, Condition]:
    """Return whether an alternative holds, None if unknown; and the condition that decides."""
    unknown = None
    for condition in alternative:
        holds = condition.holds(facts, gpu)
        if holds is False:
            return False, condition
        if holds is None and unknown is None:
            unknown = condition
    return (None, unknown) if unknown else (True, alternative[-1])


def _version_test(operator: str, bound: Version) -> Callable[[str], bool | None]:
    def test(text: str) -> bool | None:
        value = version(text)
        if value is None:
            return None
        if value == bound:
            return operator in {"=", "<=", ">="}
        return operator in ({"!=", "<", "<="} if value < bound else {"!=", ">", ">="})

    return test


def _brand_test(operator: str, brand: str) -> Callable[[str], bool | None]:
    return lambda value: (value.lower() == brand) == (operator == "=")


def _no_test(_value: str) -> bool | None:
    return None


def version(text: str) -> Version | None:
    """Return the numbers of a version as libnvidia-container reads it; None if it is not one.

    Unlike `versions.parse` it accepts any count of numbers and ignores empty ones: `12..3` is 12.3.
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
    """Return why no alternative holds, and a remedy; the first, then the nearest alternatives."""
    pairs = list(zip(alternatives, failing))
    pairs[1:] = sorted(pairs[1:], key=lambda pair: -pair[0].index(pair[1]))
    reasons = [_reason(*pair, facts, gpu) for pair in pairs[:MAX_ALTERNATIVES]]
    if len(pairs) > len(reasons):
        reasons.append(f"{len(pairs) - len(reasons)} more")
    if any(condition.wants_more() for condition in failing):
        advice = "update the driver"
    elif any(condition.fault for condition in failing):
        advice = "correct the requirement"
    else:
        advice = "use another image"
    explanation = "; or ".join(reasons)
    return f"{_cut(name)} is not satisfied: {explanation}; {advice}, or set {DISABLE}=1"


def _reason(
    alternative: Alternative, condition: Condition, facts: Facts, gpu: GpuFacts | None
) -> str:
    text = ",".join(part.text for part in alternative)
    if condition.fault:
        return f"{_cut(condition.text)} (at character {condition.position}) {condition.fault}"
    owner = gpu.name if gpu and condition.is_of_a_gpu() else "this host"
    value = f"({owner}: {condition.value(facts, gpu)})"
    if len(alternative) == 1:
        return f"{_cut(text)} {value}"
    return f"{_cut(text)}: {_cut(condition.text)} {value}"


def _cut(text: str) -> str:
    """Return a part of an expression for a terminal or a log: escaped and shortened."""
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
