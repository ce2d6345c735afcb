# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for CDI specs: any that the types allow, and those that engines accept."""

from __future__ import annotations

import string
from dataclasses import replace
from typing import TypeVar

from hypothesis import strategies as st

from cdi_base.cdi.injection import HOOK_NAMES
from cdi_gen.cdi.model import (
    ContainerEdits,
    Device,
    DeviceNode,
    Hook,
    IntelRdt,
    Mount,
    NetDevice,
    Spec,
)
from cdi_gen.cdi.versions import minimum_version

T = TypeVar("T")

# Time is a matter of how busy the machine is: only tests that say so may fail for it.

# Words that some YAML reader takes for a number, a date, a boolean, null or its own syntax.
TREACHEROUS = (
    *("0", "00", "007", "0666", "0o17", "0x1f", "0b1", "1_000", "-1", "+1", "12e3", "1.e3", ".5"),
    *("1.5", "1e", "1:0", "190:20:30", "2001-01-01", "2001-12-14t21:59:43.10-05:00", ".inf"),
    *("-.INF", ".nan", "nan", "inf", "NaN", "on", "Off", "yes", "NO", "y", "N", "true", "False"),
    *(
        "null",
        "Null",
        "~",
        "",
        " ",
        "=",
        "<<",
        "-",
        "--",
        "---",
        "...",
        "- a",
        "? a",
        ": a",
        "a: b",
    ),
    *(
        "a:",
        "a #b",
        "#a",
        "&a",
        "*a",
        "!a",
        "!!int 3",
        "|",
        ">",
        "'a'",
        '"a"',
        "{a}",
        "[a]",
        "a, b",
    ),
    *("%a", "@a", "`a", "\t", "a\tb", "a\nb", "a\r\nb", " a", "a ", "\u0085", "\u2028", "\ufeffa"),
    *("\x00", "\x7f", "\x1b[31m", "é", "💥", "\\", "\\u0041", "NVIDIA_VISIBLE_DEVICES=void"),
)

texts = st.sampled_from(TREACHEROUS) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=20
)
uint32s = st.integers(0, 2**32 - 1)
int64s = st.integers(-(2**63), 2**63 - 1)


def some(values: st.SearchStrategy[T], most: int = 3) -> st.SearchStrategy[tuple[T, ...]]:
    """Tuples of a few values."""
    return st.lists(values, max_size=most).map(tuple)


def annotation_pairs(
    keys: st.SearchStrategy[str] = texts,
) -> st.SearchStrategy[tuple[tuple[str, str], ...]]:
    return st.dictionaries(keys, texts, max_size=2).map(lambda mapping: tuple(mapping.items()))


device_nodes = st.builds(
    DeviceNode,
    path=texts,
    host_path=texts,
    type=texts,
    major=st.none() | int64s,
    minor=st.none() | int64s,
    file_mode=st.none() | uint32s,
    permissions=texts,
    uid=st.none() | uint32s,
    gid=st.none() | uint32s,
)
net_devices = st.builds(NetDevice, host_interface_name=texts, name=texts)
hooks = st.builds(
    Hook,
    hook_name=texts,
    path=texts,
    args=some(texts),
    env=some(texts),
    timeout=st.none() | int64s,
)
mounts = st.builds(Mount, host_path=texts, container_path=texts, options=some(texts), type=texts)
intel_rdts = st.builds(
    IntelRdt,
    clos_id=texts,
    l3_cache_schema=texts,
    mem_bw_schema=texts,
    schemata=some(texts),
    enable_monitoring=st.booleans(),
)
edits = st.builds(
    ContainerEdits,
    env=some(texts),
    device_nodes=some(device_nodes, 2),
    net_devices=some(net_devices, 2),
    hooks=some(hooks, 2),
    mounts=some(mounts, 2),
    intel_rdt=st.none() | intel_rdts,
    additional_gids=some(uint32s),
)
devices = st.builds(Device, name=texts, annotations=annotation_pairs(), container_edits=edits)
specs = st.builds(
    Spec,
    cdi_version=texts,
    kind=texts,
    annotations=annotation_pairs(),
    devices=some(devices),
    container_edits=edits,
)
"""Anything that the types allow, sense or no sense."""


_LETTERS = string.ascii_letters
_ALPHANUMERIC = _LETTERS + string.digits


def _named(first: str, inner: str) -> st.SearchStrategy[str]:
    rest = st.text(inner, max_size=6), st.text(_ALPHANUMERIC, min_size=1, max_size=1)
    return st.text(first, min_size=1, max_size=1) | st.builds(
        lambda *parts: "".join(parts), st.text(first, min_size=1, max_size=1), *rest
    )


kind_parts = _named(_LETTERS, _ALPHANUMERIC + "_-.")
device_names = _named(_ALPHANUMERIC, _ALPHANUMERIC + "_-.:")
paths = st.text(_ALPHANUMERIC + "/._-+ ", max_size=12).map(lambda rest: "/" + rest)
variables = st.builds("{}={}".format, st.text(_ALPHANUMERIC, min_size=1, max_size=5), texts)

good_nodes = st.builds(
    DeviceNode,
    path=paths,
    host_path=st.just("") | paths,
    type=st.sampled_from(("", "b", "c", "u", "p")),
    major=st.none() | st.integers(0, 4095),
    minor=st.none() | st.integers(0, 4095),
    file_mode=st.none() | st.integers(0, 0o777),
    permissions=st.sampled_from(("", "r", "rw", "rwm", "mr", "none")),
    uid=st.none() | uint32s,
    gid=st.none() | uint32s,
)
good_hooks = st.builds(
    Hook,
    hook_name=st.sampled_from(HOOK_NAMES),
    path=paths,
    args=some(texts),
    env=some(variables),
    timeout=st.none() | st.integers(1, 100),
)
good_mounts = st.builds(
    Mount,
    host_path=paths,
    container_path=paths,
    options=st.just(("ro", "rbind")) | st.just(("bind",)),
    type=st.sampled_from(("", "bind")),
)
good_edits = st.builds(
    ContainerEdits,
    env=some(variables),
    device_nodes=some(good_nodes, 2),
    net_devices=st.just(()) | st.just((NetDevice(host_interface_name="eth0", name="e"),)),
    hooks=some(good_hooks, 2),
    mounts=some(good_mounts, 2),
    intel_rdt=st.none() | st.builds(IntelRdt, clos_id=st.just("a"), schemata=some(texts, 1)),
    additional_gids=some(uint32s, 2),
)
good_devices = st.builds(
    Device, name=device_names, annotations=annotation_pairs(kind_parts), container_edits=good_edits
).filter(lambda device: bool(device.container_edits))
good_specs = st.builds(
    Spec,
    cdi_version=st.just("0.3.0"),
    kind=st.builds("{}/{}".format, kind_parts, kind_parts),
    annotations=annotation_pairs(kind_parts),
    devices=st.lists(
        good_devices, min_size=1, max_size=3, unique_by=lambda device: device.name
    ).map(tuple),
    container_edits=good_edits,
).map(lambda spec: replace(spec, cdi_version=minimum_version(spec)))
"""What every engine accepts, each at the lowest version that it needs."""
