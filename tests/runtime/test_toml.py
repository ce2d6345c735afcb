# SPDX-License-Identifier: Apache-2.0
"""The small TOML reader against Python's own: never laxer, and stricter only where it says so."""

from __future__ import annotations

import importlib.util
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cdi_base.toml import TomlError, parse

SERIALIZED = """\
#accept-nvidia-visible-devices-as-volume-mounts = false
#accept-nvidia-visible-devices-envvar-when-unprivileged = true
disable-require = false
supported-driver-capabilities = "compat32,compute,display,graphics,ngx,utility,video"
#swarm-resource = "DOCKER_RESOURCE_GPU"

[nvidia-container-cli]
#debug = "/var/log/nvidia-container-toolkit.log"
environment = []
#ldcache = "/etc/ld.so.cache"
ldconfig = "@/sbin/ldconfig.real"
load-kmods = true
#no-cgroups = false
#path = "/usr/bin/nvidia-container-cli"
#root = "/run/nvidia/driver"
#user = "root:video"

[nvidia-container-runtime]
#debug = "/var/log/nvidia-container-runtime.log"
log-level = "info"
mode = "auto"
runtimes = ["runc", "crun"]

[nvidia-container-runtime.modes]

[nvidia-container-runtime.modes.cdi]
annotation-prefixes = ["cdi.k8s.io/"]
default-kind = "nvidia.com/gpu"
spec-dirs = ["/etc/cdi", "/var/run/cdi"]

[nvidia-container-runtime.modes.csv]
mount-spec-path = "/etc/nvidia-container-runtime/host-files-for-container.d"

[nvidia-container-runtime.modes.legacy]
cuda-compat-mode = "ldconfig"

[nvidia-container-runtime-hook]
path = "nvidia-container-runtime-hook"
skip-mode-detection = false

[nvidia-ctk]
path = "nvidia-ctk"
"""
"""The defaults as nvidia-ctk writes them."""

TAKEN = [
    "",
    "\n\n",
    SERIALIZED,
    SERIALIZED.replace("\n", "\r\n"),
    "# no end of line",
    "a=1",
    "a = 1 # why",
    "\ta\t=\t1\t",
    "a = true\nb = false",
    "a = 0\nb = -0\nc = +7\nd = -12\ne = 1_000_000",
    f"a = {(1 << 63) - 1}\nb = -{(1 << 63) - 1}",
    "a = \"x # y\"\nb = 'x # y'",
    "a = \"\"\nb = ''",
    r'a = "\b\t\n\f\r\"\\ é \U0001F600"',
    r"a = '\n\u00e9'",
    "a = \"\t\"\nb = '\t'",
    'a = "é\u2028\u0085"',
    "# é\t\u0085\u2028",
    "a = []\nb = [ ]\nc = [1, 2]\nd = [1, 2,]\ne = [[1], ['x'], []]",
    "a = [ # one\n  1, # two\n\n # three\n  2\n # four\n]",
    "a = [1, 'x', true, {b = 1}]",
    "a = {}\nb = { }\nc = {d = 1, e = 'x'}",
    "a = {b.c = 1, b.d = 2}",
    "a = {b = {c = {d = []}}}",
    "a = {b = [1,\n2]}",
    "a.b = 1\na.c = 2",
    "a . b\t.c = 1",
    "'a.b'.\"c d\" = 1",
    "\"\" = 1\n[x]\n'' = 2",
    r'"\u00e9" = 1',
    "1 = 1\n-_ = 2\n[0]\n1.2 = 3",
    "true = 1\nfalse.a = 2",
    "[a]\n[b]\nx = 1",
    "[a.b.c]\nx = 1\n[a]\ny = 2\n[a.b]\nz = 3",
    "[ a . 'b' ]\nx = 1 \n [c] # here",
    "[a]\nb.c = 1\n[a.d]\nx = 1",
    "[a]\nb.c = 1\n[a.b.d]\nx = 1",
    "[features]\nallow-unknown-oci-spec-fields = true",
]

NOT_TOML = [
    # What, and the line that is named.
    ("a", 1), ("a =", 1), ("\na = \nb = 1", 2), ("= 1", 1), ("a b = 1", 1), ("a = 1 2", 1),
    ("a = 1 b = 2", 1), ("a = x", 1), ("a = True", 1), ("a = yes", 1), ("a = truefalse", 1),
    ("a. = 1", 1), (".a = 1", 1), ("a..b = 1", 1), ("a = 1\n.", 2), ("é = 1", 1), ("a/b = 1", 1),
    ("a = 01", 1), ("a = -01", 1), ("a = 1__0", 1), ("a = _1", 1), ("a = 1_", 1), ("a = ++1", 1),
    ("a = +", 1), ("a = 1x", 1), ("a = ٣", 1),
    ('a = "x', 1), ("a = 'x", 1), ('a = "x\ny"', 1), ("a = 'x\"", 1), ('a = "x" y', 1),
    (r'a = "\x41"', 1), (r'a = "\e"', 1), (r'a = "\u12"', 1), (r'a = "\ud800"', 1),
    (r'a = "\U00110000"', 1), (r'a = "\u00zz"', 1), ('a = "\\', 1), ('a = "\\u', 1),
    ('a = "\x00"', 1), ("a = '\x7f'", 1), ('a = "\r"', 1), ("# \x00", 1), ("# \r x", 1), ("a = 1\r", 1),
    ("\ufeffa = 1", 1), ("a = 1\x0c", 1),
    ("a = [", 1), ("a = [1", 1), ("a = [1 2]", 1), ("a = [,]", 1), ("a = [1,,2]", 1),
    ("\na = [1,\n\n2 3]", 4), ("a = [1]]", 1), ("a = ]", 1), ("a = [1, # ]", 1),
    ("a = {", 1), ("a = {b}", 1), ("a = {b = 1", 1), ("a = {b = 1,}", 1), ("a = {,}", 1),
    ("a = {b = 1\n}", 1), ("a = {\n}", 1), ("a = {b = 1 c = 2}", 1), ("a = {b = 1, b = 2}", 1),
    ("a = {b = 1, b.c = 2}", 1), ("a = {b = {c = 1}, b.d = 2}", 1), ("a = {b = {}, b = {}}", 1),
    ("a = {b.c = 1, b = 2}", 1),
    ("a = 1\na = 2", 2), ("a = 1\n'a' = 2", 2), ("a.b = 1\na = 2", 2), ("a = 1\na.b = 2", 2),
    ("a.b = 1\n\na.b = 2", 3), ("a = {}\na.b = 1", 2), ("a = {b = {}}\na.b.c = 1", 2),
    ("a = []\na.b = 1", 2),
    ("[a]\n[a]", 2), ("[a]\nb = 1\n[a.b]", 3), ("a = 1\n[a]", 2), ("a = {}\n[a]", 2),
    ("a = {}\n[a.b]", 2), ("a.b = 1\n[a]", 2), ("[a]\nb.c = 1\n[a.b]", 3),
    ("[a.b]\n[a]\nb.c = 1", 3), ("[a.b.c]\n[a]\nb.c.d = 1", 3), ("[a]\nb = {}\n[a.b.c]", 3),
    ("[]", 1), ("[", 1), ("[a", 1), ("[a.]", 1), ("[.a]", 1), ("[a]]", 1), ("[a] x = 1", 1),
    ("[a b]", 1), ("[a\n]", 1), ("[a]b", 1),
]  # fmt: skip

NOT_TAKEN = [
    ("\na = 1.5", 2, "floats"), ("a = -1e3", 1, "floats"), ("a = 1e-3", 1, "floats"),
    ("a = inf", 1, "floats"), ("a = -nan", 1, "floats"), ("a = 1_0.5", 1, "floats"),
    ("a = 1e06", 1, "floats"),
    ("a = 2024-01-31", 1, "dates"), ("a = 2024-01-31T01:02:03Z", 1, "dates"),
    ("a = 2024-01-31t01:02:03.5-07:00", 1, "dates"), ("a = 01:02:03", 1, "dates"),
    ("a = 01:02:03.25", 1, "dates"), ("a = 2024-01-31 01:02:03", 1, "dates"),
    ("a = 0x1F", 1, "base 10"), ("a = 0o17", 1, "base 10"), ("a = 0b1", 1, "base 10"),
    (f"a = {1 << 63}", 1, "64 bits"), ("a = " + "9" * 4000, 1, "64 bits"),
    ('a = """x"""', 1, "several lines"), ("a = '''\nx'''", 1, "several lines"),
    (r'a = "\u0000"', 1, "a NUL character"), (r'"\U00000000" = 1', 1, "a NUL character"),
    ("[[a]]", 1, "arrays of tables"), ("[a]\n\n[[a.b]]", 3, "arrays of tables"),
    ("a = " + "[" * 40 + "]" * 40, 1, "levels deep"),
    ("a." * 40 + "b = 1", 1, "32 parts"), ("[" + "a." * 40 + "b]", 1, "32 parts"),
    ("a = {" + "a." * 40 + "b = 1}", 1, "32 parts"),
]  # fmt: skip

NOT_SUPPORTED = ("not supported", "base 10 are", "levels deep", "32 parts")


def theirs(text: str) -> dict[str, Any] | None:
    """What Python reads; None where it is no TOML."""
    tomllib = importlib.import_module("tomllib")
    try:
        return dict(tomllib.loads(text))
    except (ValueError, RecursionError):
        return None


def compared(text: str) -> None:
    expected = theirs(text)
    try:
        values, lines = parse(text)
    except TomlError as error:
        message = str(error)
        assert message.isprintable()
        assert len(message) < 300
        assert message.startswith("line ")
        assert expected is None or any(reason in message for reason in NOT_SUPPORTED), message
    else:
        assert repr(values) == repr(expected)
        assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


needs_tomllib = pytest.mark.skipif(
    importlib.util.find_spec("tomllib") is None, reason="Python before 3.11 has no tomllib"
)


@needs_tomllib
@pytest.mark.parametrize("text", TAKEN)
def test_accepted_document_is_read_as_by_python(text: str) -> None:
    assert repr(parse(text)[0]) == repr(theirs(text))


@pytest.mark.parametrize(("text", "line"), NOT_TOML)
def test_invalid_toml_is_rejected_with_its_line(text: str, line: int) -> None:
    with pytest.raises(TomlError, match=f"^line {line}: "):
        parse(text)


@needs_tomllib
@pytest.mark.parametrize("text", [text for text, _ in NOT_TOML])
def test_python_rejects_invalid_toml_too(text: str) -> None:
    assert theirs(text) is None


@pytest.mark.parametrize(("text", "line", "what"), NOT_TAKEN)
def test_unsupported_toml_is_rejected_with_a_reason(text: str, line: int, what: str) -> None:
    with pytest.raises(TomlError, match=f"^line {line}: .*{what}"):
        parse(text)


@needs_tomllib
@pytest.mark.parametrize("text", [text for text, _, _ in NOT_TAKEN])
def test_python_accepts_unsupported_toml(text: str) -> None:
    assert theirs(text) is not None


def test_lines_of_keys() -> None:
    lines = parse("a = 1\n\n[b] # x\nc.d = [\n1,\n2]\ne = {f = 1}\n")[1]
    assert lines == {("a",): 1, ("b",): 3, ("b", "c", "d"): 4, ("b", "e"): 7}


KEYS = st.sampled_from(["a", "b", "c", "a.b", "b.a", "a.b.c", "'a'", '"b"', "' '.a", "c . a"])
WORDS = st.one_of(
    st.booleans().map(lambda value: str(value).lower()),
    st.integers(-(1 << 63), (1 << 63) - 1).map(str),
    st.sampled_from(['"x"', "'x'", '"\\u00e9\\n"', "''", "1.5", "0x1", "2020-01-01", "x", "01"]),
)
VALUES = st.recursive(
    WORDS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(inner, max_size=2).map(
            lambda items: "[\n" + "".join(map("{},#x\n".format, items)) + "]"
        ),
        st.lists(st.tuples(KEYS, inner).map(" = ".join), max_size=3).map(
            lambda items: f"{{{','.join(items)}}}"
        ),
    ),
    max_leaves=6,
)
STATEMENTS = st.one_of(
    st.tuples(KEYS, VALUES).map(" = ".join),
    KEYS.map(lambda key: f"[{key}]"),
    st.sampled_from(["", "# x", "[[a]]", "[a] # x"]),
)


@needs_tomllib
@settings(deadline=None)
@given(st.lists(STATEMENTS, max_size=8).map("\n".join))
@example("[a.b]\n[a]\nb.c = 1")
@example("[a]\nb.c = 1\n[a.b]")
def test_generated_document_is_read_as_by_python(text: str) -> None:
    compared(text)


@needs_tomllib
@settings(deadline=None)
@given(st.text(st.sampled_from("ab.=[]{}\"'\\#,\n\r\t 01_-+eu:T\x00é"), max_size=24))
def test_random_text_is_read_as_by_python(text: str) -> None:
    compared(text)


@needs_tomllib
@pytest.mark.parametrize("text", [SERIALIZED, *TAKEN[10:]])
def test_damaged_document_is_read_as_by_python(text: str) -> None:
    chance = random.Random(text)
    for _ in range(100):
        damaged = [*text]
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(damaged) + 1)
            damaged[at : at + chance.randint(0, 3)] = chance.choices(
                "a.=[]{}\"'\\#,\n 1", k=chance.randint(0, 2)
            )
        compared("".join(damaged))
