# SPDX-License-Identifier: Apache-2.0
"""Names are read by the standard's grammar, and refused with the place of the fault."""

from __future__ import annotations

import pytest

from cdi_base.cdi import names as grammar
from cdi_gen.cdi import names
from cdi_runtime.request import RequestError, device_names
from cdi_runtime.specs import resolution


@pytest.mark.parametrize(
    ("text", "vendor", "device_class", "device"),
    [
        ("nvidia.com/gpu=0", "nvidia.com", "gpu", "0"),
        ("nvidia.com/gpu=all", "nvidia.com", "gpu", "all"),
        ("nvidia.com/gpu=0:1", "nvidia.com", "gpu", "0:1"),
        ("nvidia.com/gpu=pci-0000-3b-00-0", "nvidia.com", "gpu", "pci-0000-3b-00-0"),
        (
            "k8s.gpu.nvidia.com/claim=c8593c85-gpu-0",
            "k8s.gpu.nvidia.com",
            "claim",
            "c8593c85-gpu-0",
        ),
        ("a/b=c", "a", "b", "c"),
        ("A_1.b-2/C.d=E:f", "A_1.b-2", "C.d", "E:f"),
    ],
)
def test_a_name_has_three_parts(text: str, vendor: str, device_class: str, device: str) -> None:
    name = names.parse(text)
    assert (name.vendor, name.device_class, name.device) == (vendor, device_class, device)
    assert name.kind == f"{vendor}/{device_class}"
    assert str(name) == text
    assert grammar.is_qualified(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no '='"),
        ("all", "has no '='"),
        ("/dev/nvidia0", "has no '='"),
        ("gpu=0", "'gpu' is not a kind: it has no '/'"),
        ("/gpu=0", "the vendor is empty"),
        ("nvidia.com/=0", "the class is empty"),
        ("nvidia.com/gpu=", "the device name is empty"),
        ("1vidia.com/gpu=0", "vendor '1vidia.com' starts with '1'; it must start with a letter"),
        ("nvidia.com/-gpu=0", "class '-gpu' starts with '-'"),
        ("nvidia.com/gpu=:0", "device name ':0' starts with ':'"),
        ("nvidia.com./gpu=0", "vendor 'nvidia.com.' ends with '.'"),
        ("nvidia.com/gpu=0-", "device name '0-' ends with '-'"),
        ("nvidia.com/gpu/x=0", "class 'gpu/x' has '/' at character 4"),
        ("nvidia.com/g:u=0", "class 'g:u' has ':' at character 2"),
        ("nvidia.com/gpu=0=1", "device name '0=1' has '=' at character 2"),
        ("nvidia.com/gpu=a b", "device name 'a b' has ' ' at character 2"),
        ("nvidia.com/gpu=0\n", r"device name '0\n' has '\n' at character 2"),
        ("nvïdia.com/gpu=0", "vendor 'nvïdia.com' has 'ï' at character 3"),
        ("nvidia.com/gpu=٣", "device name '٣' starts with '٣'"),
    ],
)
def test_what_is_no_name_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(names.BadNameError) as error:
        names.parse(text)
    assert reason in str(error.value)
    assert not grammar.is_qualified(text)


@pytest.mark.parametrize("text", ["/dev/x=y", "a/=", "1/2=3", "a/b/c=d", "a/b=c/1/0"])
def test_a_slash_and_an_equals_sign_do_not_make_a_name(text: str) -> None:
    """The shim's resolution once took these for full names, which its reader of requests refused."""
    assert not grammar.is_qualified(text)
    with pytest.raises(RequestError):
        device_names.device(text, "NVIDIA_VISIBLE_DEVICES")
    for module in (resolution, device_names):
        assert vars(module)["is_qualified"] is grammar.is_qualified


def test_a_bad_name_is_a_value_error() -> None:
    assert issubclass(names.BadNameError, ValueError)
