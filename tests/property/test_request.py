# SPDX-License-Identifier: Apache-2.0
"""Requests: whatever config.json says, it is a request in the grammar, or a refusal in one line."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cdi_runtime.config_toml.settings import Configuration
from cdi_runtime.request import VENDORS, Request, RequestError, read

UUID = "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
NUMBER = "[0-9]{1,6}"
IDENTIFIER = "[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?"
NAME = "[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?"
QUALIFIED = re.compile(f"({IDENTIFIER})/{IDENTIFIER}={NAME}")
GRAMMAR = re.compile(
    f"{NUMBER}(:{NUMBER})?|(?i:gpu|mig)-{UUID}|(?i:mig-gpu)-{UUID}/{NUMBER}/{NUMBER}"
    f"|gpu{NUMBER}|mig{NUMBER}:{NUMBER}|pci-[0-9A-Fa-f]{{4,8}}-[0-9A-Fa-f]{{2}}-[0-9A-Fa-f]{{2}}-[0-7]"
    f"|{QUALIFIED.pattern}"
)
"""The same in another language than the code's, which has no regular expressions."""

ID = "8d4c9b2e-1f3a-4c5d-9e6f-0123456789ab"
GOOD = st.sampled_from(
    ["0", "1", "00", "0:1", f"GPU-{ID}", f"MIG-{ID}", f"mig-gpu-{ID}/1/0", "0000:3b:00.0", "3B:00.0",
     "gpu0", "mig0:1", "pci-0000-3b-00-0", "nvidia.com/gpu=0", "nvidia.com/gds=all",
     "runtime.nvidia.com/gpu=1"]
)  # fmt: skip
ODD = st.sampled_from(
    [
        "",
        " ",
        "foo",
        "vendor.com/x=y",
        "management.nvidia.com/gpu=all",
        "GPU-1",
        "0:",
        "../x",
        "1234567",
    ]
)
SPECIAL = st.sampled_from(["all", "none", "void", "ALL"])


def bent(word: str, place: int, char: str) -> str:
    """A word with one more character."""
    return word[: place % (len(word) + 1)] + char + word[place % (len(word) + 1) :]


BENT = st.builds(bent, GOOD, st.integers(0, 60), st.sampled_from("0a: ._-/=٣²é\x00+g"))
WORDS = st.one_of(GOOD, GOOD, ODD, SPECIAL, BENT, st.text(max_size=6))
LISTS = st.one_of(
    st.lists(GOOD, min_size=1, max_size=3).map(",".join), BENT, ODD, SPECIAL,
    st.lists(WORDS, max_size=5).map(",".join),
)  # fmt: skip

VARIABLES = st.sampled_from(
    ["NVIDIA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "SWARM", "NVIDIA_DRIVER_CAPABILITIES",
     "NVIDIA_IMEX_CHANNELS", "NVIDIA_MIG_CONFIG_DEVICES", "NVIDIA_GDS", "NVIDIA_NVSWITCH",
     "CUDA_VERSION", "NVIDIA_REQUIRE_CUDA"]
)  # fmt: skip
VALUES = st.one_of(LISTS, st.sampled_from(["enabled", "all", "utility,video", "1,2", "9.0"]))
OTHER = st.dictionaries(VARIABLES, VALUES, max_size=3)
ENVIRONMENTS = st.tuples(LISTS, OTHER).map(
    lambda both: [
        f"{name}={value}" for name, value in {"NVIDIA_VISIBLE_DEVICES": both[0], **both[1]}.items()
    ]
)
ENTRIES = st.tuples(VARIABLES, VALUES).map("=".join) | st.text(max_size=5)
PATHS = st.one_of(
    st.tuples(
        st.sampled_from(
            ["/var/run/nvidia-container-devices", "/var/run/nvidia-container-devices-x"]
        ),
        st.sampled_from(["/", "/cdi/", "/imex/", "/../", "//./"]),
        WORDS | st.sampled_from(["nvidia.com/gpu/0", "vendor.com/x/y", "5"]),
    ).map("".join),
    st.text(max_size=5),
)
MOUNTS = st.fixed_dictionaries(
    {"destination": PATHS, "source": st.sampled_from(["/dev/null", "/dev/zero", "//dev/null"])}
)
ANNOTATIONS = st.dictionaries(st.sampled_from(["cdi.k8s.io/a", "cdi.k8s.io/b", "x"]), LISTS)
CAPABILITIES: st.SearchStrategy[dict[str, list[str]] | None] = st.sampled_from(
    [{"bounding": ["CAP_SYS_ADMIN"]}, {"bounding": []}, {}, None]
)
CONFIGS = st.fixed_dictionaries(
    {
        "process": st.fixed_dictionaries({"env": ENVIRONMENTS, "capabilities": CAPABILITIES}),
        "mounts": st.lists(MOUNTS, max_size=3),
        "annotations": ANNOTATIONS,
    }
)

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | ENTRIES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
ANYTHING = st.fixed_dictionaries(
    {},
    optional={
        "process": ANY | st.fixed_dictionaries({}, optional={"env": ANY, "capabilities": ANY}),
        "mounts": ANY | st.lists(st.dictionaries(st.sampled_from(["source", "destination"]), ANY)),
        "annotations": ANY | st.dictionaries(st.just("cdi.k8s.io/a") | st.text(max_size=3), ANY),
    },
)


@st.composite
def hosts(draw: st.DrawFn) -> Configuration:
    made = Configuration()
    made.mode = draw(st.sampled_from(["auto", "cdi"]))
    made.accept_environment_unprivileged = draw(st.booleans())
    made.accept_volume_mounts = draw(st.booleans())
    made.swarm_resource = draw(st.sampled_from([(), ("SWARM",)]))
    return made


def tried(config: dict[str, Any], host: Configuration, annotations: bool) -> Request | None:
    try:
        return read(config, host, annotations=annotations)
    except RequestError as error:
        message = str(error)
    assert message.isprintable()
    assert len(message) < 500
    return None


def privileged(config: dict[str, Any]) -> bool:
    return "CAP_SYS_ADMIN" in ((config["process"]["capabilities"] or {}).get("bounding") or [])


@settings(deadline=None)
@given(ANYTHING, hosts(), st.booleans())
@example({"process": {"env": ["NVIDIA_VISIBLE_DEVICES=\ud800"]}}, Configuration(), True)
def test_any_document(config: dict[str, Any], host: Configuration, annotations: bool) -> None:
    tried(config, host, annotations)


@settings(deadline=None)
@given(CONFIGS, hosts(), st.booleans())
def test_a_request_is_in_the_grammar(
    config: dict[str, Any], host: Configuration, annotations: bool
) -> None:
    request = tried(config, host, annotations)
    if request is None:
        return
    devices = list(request.devices)
    assert len(set(devices)) == len(devices)
    if devices and devices[0] in {"all", "none"}:
        assert all(QUALIFIED.fullmatch(name) for name in devices[1:])
    else:
        form = re.compile(f"{GRAMMAR.pattern}|{NAME}") if host.mode == "cdi" else GRAMMAR
        assert all(form.fullmatch(name) for name in devices)
    assert set(request.capabilities) <= set(host.supported_driver_capabilities)
    assert all(0 <= each < 1 << 20 for each in request.imex_channels)
    assert all(warning.message.isprintable() for warning in request.warnings)
    if not devices:
        rest = (request.capabilities, request.modes, request.imex_channels)
        assert not any([*rest, request.mig_config, request.mig_monitor])


@settings(deadline=None)
@given(CONFIGS, hosts())
def test_the_environment_opens_nothing(config: dict[str, Any], host: Configuration) -> None:
    """Without mounts and annotations there is the environment alone."""
    config = config | {"mounts": [], "annotations": {}}
    request = tried(config, host, annotations=True)
    if request is None or not request.devices:
        return
    assert privileged(config) or host.accept_environment_unprivileged
    assert privileged(config) or not (request.mig_config or request.mig_monitor)
    for name in request.devices:
        found = QUALIFIED.fullmatch(name)
        management = privileged(config) and name.startswith("management.nvidia.com/")
        assert found is None or found[1] in VENDORS or management


@settings(deadline=None)
@given(st.lists(GOOD, max_size=4), st.data())
def test_twice_is_once(words: list[str], data: st.DataObject) -> None:
    """A word that comes again changes nothing."""
    more = data.draw(st.lists(st.sampled_from(words), max_size=3)) if words else []
    assert visible([*words, *more]) == visible(words)
    # And what was understood is understood the same.
    assert visible([*visible(words)]) == visible(words)


def visible(words: list[str]) -> tuple[str, ...]:
    config: dict[str, Any] = {"process": {"env": [f"NVIDIA_VISIBLE_DEVICES={','.join(words)}"]}}
    return read(config, Configuration(), annotations=False).devices


@settings(deadline=None)
@given(st.lists(GOOD, min_size=1, max_size=4))
def test_a_list_is_the_same_wherever_it_stands(words: list[str]) -> None:
    host = Configuration()
    host.swarm_resource = ("SWARM",)
    host.accept_volume_mounts = True
    swarm: dict[str, object] = {"process": {"env": [f"SWARM={','.join(words)}"]}}
    annotated: dict[str, object] = {"annotations": {"cdi.k8s.io/x": ",".join(words)}}
    mounts = [
        {"source": "/dev/null", "destination": f"/var/run/nvidia-container-devices/{place}"}
        for place in (f"cdi/{word}" if "=" in word else word for word in words)
    ]
    configs: tuple[dict[str, object], ...] = (swarm, annotated, {"mounts": mounts})
    for config in configs:
        assert read(config, host, annotations=True).devices == visible(words)
