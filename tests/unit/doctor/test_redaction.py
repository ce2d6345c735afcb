# SPDX-License-Identifier: Apache-2.0
"""What a report does not disclose, and what it keeps."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdi_gen.doctor.redaction import Redaction

HOME = "/home"
UUID = "6e89a2d4-1b7c-4f0a-9d3e-0c5b7a812f44"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (f"GPU-{UUID} and MIG-{UUID}", "GPU-00000000-0000-4000-8000-000000000001 and MIG-00000000-0000-4000-8000-000000000001"),
        (f"MIG-GPU-{UUID}/7/0", "MIG-GPU-00000000-0000-4000-8000-000000000001/7/0"),
        ("machine 4c4c4544005a4210804cb7c04f4d3432", "machine 00000000000000000000000000000001"),
        ("10.20.30.40 10.20.30.41 10.20.30.40:443", "192.0.2.1 192.0.2.2 192.0.2.1:443"),
        ("addr fe80::1ff:fe23:4567:890a/64", "addr 2001:db8::1/64"),
        ("eth0 0c:42:a1:7b:00:1f", "eth0 02:00:00:00:00:01"),
        ("port 0c:42:a1:03:00:7b:00:1f", "port 02:00:00:00:00:00:00:01"),
        (f"{HOME}/alice/.config {HOME}/bob {HOME}/alice", f"{HOME}/user-1/.config {HOME}/user-2 {HOME}/user-1"),
        ("Serial Number : 1321420003144", "Serial Number : SERIAL-1"),
        ("https://alice:s3cret@proxy.corp/x", "https://[redacted]@proxy.corp/x"),
        ("HTTPS_PROXY=http://proxy.corp.example:3128", "HTTPS_PROXY=http://proxy-1:3128"),
        ("NGC_API_KEY=bnZhcGk6c2VjcmV0", "NGC_API_KEY=[redacted]"),
        ('"password": "hunter2", "a": 1', '"password": "[redacted]", "a": 1'),
        ("--registry-token abcdef", "--registry-token [redacted]"),
        ("Authorization: Bearer abc.def-ghi123", "Authorization: Bearer [redacted]"),
        ('{"auths": {"r": {"auth": "YTpi"}}}', '{"auths": {"r": {"auth": "[redacted]"}}}'),
        ("key nvapi-AbCdEfGhIjKlMnOpQrSt", "key [redacted]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl", "[redacted]"),
    ],
)  # fmt: skip
def test_what_identifies_is_replaced(text: str, redacted: str) -> None:
    assert Redaction().text(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "550.163.01",
        "/usr/lib/x86_64-linux-gnu/libcuda.so.550.163.01",
        "0000:3b:00.0",
        "pci-0000-3b-00-0",
        "195:255 510:0",
        "Nov 30 02:34:40 NVRM: Xid (PCI:0000:3b:00): 79, pid=1234",
        "nvidia.com/gpu=all",
        "127.0.0.1 0.0.0.0 255.255.255.0 ::1",
        "std::string a::b",
        "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        "/home/user/x /root /home/kubernetes/bin/nvidia",
        "/proc/driver/nvidia/version",
        "token_ring=no tokens",
        "6.8.0-1021-nvidia",
        "00000000-0000-0000-0000-000000000000",
    ],
)
def test_what_a_check_needs_is_kept(text: str) -> None:
    kept = Redaction(["gpu", "nvidia"], ["docker", "root"]).text(text)
    assert kept == text.replace("token_ring=no", "token_ring=[redacted]")


def test_names_of_the_machine_and_its_users_are_replaced_as_words() -> None:
    redaction = Redaction(["rack7-dgx", "rack7-dgx.corp.example"], ["alice", "al"])
    text = "rack7-dgx.corp.example rack7-dgx: alice malice alice-x alice:100000:65536 al"
    expected = "host-1 host-2: user-1 malice alice-x user-1:100000:65536 al"
    assert redaction.text(text) == expected


def test_a_value_has_one_stand_in_in_the_whole_document() -> None:
    document = {
        f"GPU-{UUID}": [f"/proc/{UUID}"],
        f"{HOME}/alice/x": {"USER": "alice", "HOME": f"{HOME}/alice"},
        "serial": "1321420003144",
        "auth": "dXNlcjpwYXNz",
        "http-proxy": "http://user:pass@squid.corp:3128",
        "count": 3,
    }
    assert Redaction(user_names=["alice"]).value(document) == {
        "GPU-00000000-0000-4000-8000-000000000001": ["/proc/00000000-0000-4000-8000-000000000001"],
        f"{HOME}/user-1/x": {"USER": "user-1", "HOME": f"{HOME}/user-1"},
        "serial": "SERIAL-1",
        "auth": "[redacted]",
        "http-proxy": "http://proxy-1:3128",
        "count": 3,
    }


@given(st.lists(st.ip_addresses(v=4), min_size=1, max_size=20, unique=True))
def test_different_addresses_stay_different(addresses: list[object]) -> None:
    redaction = Redaction()
    stand_ins = [redaction.text(str(address)) for address in addresses]
    assert len(set(stand_ins)) == len(addresses)


def test_a_thousand_addresses_have_stand_ins_that_are_addresses() -> None:
    redaction = Redaction()
    stand_ins = {redaction.text(f"10.{high}.{low}.1") for high in range(5) for low in range(200)}
    assert len(stand_ins) == 1000
    assert all(ipaddress.ip_address(text).version == 4 for text in stand_ins)


def test_name_of_the_machine_in_capitals() -> None:
    assert Redaction(["rack7-dgx"]).text("RACK7-DGX rack7-dgx") == "host-1 host-1"


@pytest.mark.parametrize(
    "piece", ["-", "a-", "token", "eyJ-", "--token", "password=", "a:", "http://"]
)
def test_text_that_repeats_takes_no_quadratic_time(piece: str) -> None:
    """Each is a file that a user may let grow; in quadratic time some would take hours."""
    redaction = Redaction()
    assert redaction.text(piece * 40_000)
    assert redaction.value({"!".join([piece * 20_000, ""]): 1})
