# SPDX-License-Identifier: Apache-2.0
"""What a fuzzer begins with: for each target what it takes, and what it once did not."""

from __future__ import annotations

from cdi_hook import ldsocache
from tests.hook.shared_objects import note, shared_object

_NOTE = b'{"CUDA Version": "12.9", "Driver": [535, 550], "Device": [2]}\0'
_CACHE = ldsocache.build(
    [
        ldsocache.Entry(b"libc.so.6", b"/lib/libc.so.6", 0x303),
        ldsocache.Entry(b"libcuda.so.1", b"/usr/lib/libcuda.so.1", 0x303),
        ldsocache.Entry(b"liba.so.10", b"/lib/x/liba.so.10", 0x303, b"x86-64-v3", 2),
    ],
    [b"x86-64-v3"],
)


def _with_note(align: int) -> bytes:
    notes = note(b"NVIDIA Corporation\0", _NOTE, align)
    return shared_object(b"libcuda.so.1", notes=notes, note_align=align)


SEEDS: dict[str, tuple[bytes, ...]] = {
    "read-state": (
        b'{"ociVersion": "1.0.2", "id": "x", "pid": 0, "bundle": "/b", "root": "r"}',
        b'\xef\xbb\xbf{"a": [1, 2.5e3, true, null, "\\u00e9\\ud83d\\ude00"]}',
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a":' * 50_000,
        _NOTE,
    ),
    "read-configuration": (
        b"include /etc/ld.so.conf.d/*.conf\n/usr/local/lib # ours\n\xff/opt/a\n\xff/no",
        b"include ld.so.conf\ninclude *\n\xffinclude /etc/ld.so.conf.d/*",
        b"include /opt/? .d\n\xff\xff\xff/lib=libc6\n\xff/hidden\n",
        # More names than there are files.
        b"include /no /where /at /all *\n",
        b"/a\0b\r\n \t/b\f\v\n",
    ),
    "match-pattern": (b"*.conf\na.conf", b"?*[a]\nb[a]", b"*a" * 90 + b"\n" + b"a" * 90, b"*\n.x"),
    "read-elf": (
        shared_object(b"libx.so.1"),
        shared_object(b"libx.so.1", "i386"),
        shared_object(b"libx.so.1", "arm"),
        shared_object(None, "aarch64"),
        shared_object(b"libx.so.1", isa_needed=7),
        _with_note(4),
        _with_note(8),
    ),
    "read-cache": (_CACHE, b"ld.so-1.7.0\0\x01\0\0\0" + bytes(16) + _CACHE, _CACHE[:-7]),
    "read-words": (
        b"--link\0a::/b\0--folder=/x\0--host-driver-version\x00550.54.15",
        b"--update-application-profile\0--path\0/dev/dri\0--mode\x00755",
        b"--folder\0/../x",
    ),
}
