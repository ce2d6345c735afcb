# SPDX-License-Identifier: Apache-2.0
"""Texts of specs, each with one thing that readers of JSON and of YAML do not agree on."""

from __future__ import annotations

import json
from typing import Any

import yaml

from . import documents

_DOCUMENT: dict[str, Any] = {
    "cdiVersion": "0.5.0",
    "kind": "vendor.example/gpu",
    "devices": [
        {
            "name": "gpu0",
            "containerEdits": {
                "deviceNodes": [
                    {
                        "path": "/dev/gpu0",
                        "type": "c",
                        "major": 195,
                        "minor": 0,
                        "permissions": "rw",
                    }
                ]
            },
        }
    ],
    "containerEdits": {
        "env": ["A=b"],
        "mounts": [
            {"hostPath": "/usr/lib/a", "containerPath": "/usr/lib/a", "options": ["ro", "bind"]}
        ],
    },
}
_YAML = """\
cdiVersion: 0.5.0
kind: vendor.example/gpu
devices:
- name: gpu0
  containerEdits:
    deviceNodes:
    - path: /dev/gpu0
      type: c
      major: 195
      minor: 0
containerEdits:
  env:
  - A=b
"""
_JSON = json.dumps(_DOCUMENT)


def _edited(edits: dict[str, Any], version: str = "0.7.0") -> str:
    return json.dumps({**_DOCUMENT, "cdiVersion": version, "containerEdits": edits})


TEXTS: dict[str, str | bytes] = {
    "empty": "",
    "only a comment": "# nothing",
    "byte order mark": "\ufeff" + json.dumps(documents.GOOD),
    "key twice": json.dumps(documents.GOOD).replace('"kind"', '"cdiVersion": "0.5.0", "kind"', 1),
    "trailing comma": json.dumps(documents.GOOD)[:-1] + ",}",
    "single quotes": json.dumps(documents.GOOD).replace('"', "'"),
    "cut off": json.dumps(documents.GOOD)[:-20],
    "tabs": json.dumps(documents.GOOD, indent="\t"),
    "octal": yaml.safe_dump(documents.GOOD).replace("438", "0666"),
    "new octal": yaml.safe_dump(documents.GOOD).replace("438", "0o666"),
    "hexadecimal": yaml.safe_dump(documents.GOOD).replace("195", "0xc3"),
    "underscore": yaml.safe_dump(documents.GOOD).replace("195", "1_95"),
    "anchors": yaml.safe_dump(documents.GOOD)
    .replace("hookName: c", "hookName: &a c")
    .replace("- hook\n", "- *a\n"),
    "unknown anchor": yaml.safe_dump(documents.GOOD).replace("- hook\n", "- *a\n"),
    "explicit text": yaml.safe_dump(documents.GOOD).replace("name: '0'", "name: !!str 0"),
    "name on": yaml.safe_dump(documents.GOOD).replace("name: '0'", "name: on"),
    "name a date": yaml.safe_dump(documents.GOOD).replace("name: '0'", "name: 2001-01-01"),
    "name 1:0": yaml.safe_dump(documents.GOOD).replace("name: '0'", "name: 1:0"),
    "name null": yaml.safe_dump(documents.GOOD).replace("name: '0'", "name: ~"),
    "half of a pair": json.dumps(documents.changed("containerEdits.env", ["A=\ud83d"])),
}

TEXTS |= {
    "good json": _JSON,
    "good yaml": _YAML,
    "slash": _JSON.replace("example/gpu", "example\\/gpu"),
    "slash in env value": _JSON.replace("A=b", "A=b\\/"),
    "backslash slash ok": _JSON.replace("A=b", "A=b\\\\/"),
    "second doc": _YAML + "---\n" + _YAML,
    "second doc broken": _YAML + "---\n{{{\n",
    "trailing ---": _YAML + "---\n",
    "trailing ...": _YAML + "...\n",
    "trailing ... garbage": _YAML + "...\n}}}\n",
    "json second doc": _JSON + "\n---\n" + _JSON,
    "json two values": _JSON + "\n" + _JSON,
    "json trailing junk": _JSON + "\nxyz",
    "json trailing brace": _JSON + "}",
    "leading --- twice": "---\n---\n" + _YAML,
    "empty first doc": "---\n# c\n---\n" + _YAML,
    "empty first doc null": "--- null\n---\n" + _YAML,
    "directive": "%YAML 1.2\n---\n" + _YAML,
    "directive1.1": "%YAML 1.1\n---\n" + _YAML,
    "directive1.3": "%YAML 1.3\n---\n" + _YAML,
    "directive tag": "%TAG ! tag:x,2000:\n---\n" + _YAML,
    "directive foo": "%FOO bar\n---\n" + _YAML,
    "case Kind json": _JSON.replace('"kind"', '"Kind"'),
    "case yaml Kind": _YAML.replace("kind", "Kind"),
    "case hostpath": _JSON.replace("hostPath", "hostpath"),
    "case both": _JSON.replace(
        '"kind": "vendor.example/gpu"', '"kind": "vendor.example/gpu", "Kind": "vendor.example/gpu"'
    ),
    "case both bad first": _JSON.replace(
        '"kind": "vendor.example/gpu"', '"KIND": "bad", "kind": "vendor.example/gpu"'
    ),
    "case both bad last": _JSON.replace(
        '"kind": "vendor.example/gpu"', '"kind": "vendor.example/gpu", "zKind":1'
    ),
    "case both KIND bad": _JSON.replace(
        '"kind": "vendor.example/gpu"', '"kind": "bad", "Kind": "vendor.example/gpu"'
    ),
    "case Kelvin": _JSON.replace('"kind"', '"\u212aind"'),
    "case long s": _JSON.replace('"hostPath"', '"ho\u017ftPath"'),
    "rdt cmt": _edited({"intelRdt": {"closID": "a", "enableCMT": True}}),
    "rdt cmt false": _edited({"intelRdt": {"closID": "a", "enableCMT": False, "enableMBM": True}}),
    "rdt cmt null": _edited({"intelRdt": {"closID": "a", "enableCMT": None}}),
    "rdt monitoring": _edited({"intelRdt": {"closID": "a", "enableMonitoring": True}}, "1.1.0"),
    "rdt monitoring false at 0.7": _edited(
        {"intelRdt": {"closID": "a", "enableMonitoring": False}}
    ),
    "rdt schemata empty at 0.7": _edited({"intelRdt": {"closID": "a", "schemata": []}}),
    "rdt schemata null at 0.7": _edited({"intelRdt": {"closID": "a", "schemata": None}}),
    "netDevices empty 0.5": _edited({"netDevices": []}, "0.5.0"),
    "netDevices null 0.5": _edited({"netDevices": None}, "0.5.0"),
    "gids empty 0.5": _edited({"additionalGids": []}, "0.5.0"),
    "rdt null 0.5": _edited({"intelRdt": None}, "0.5.0"),
    "clos / ": _edited({"intelRdt": {"closID": "/"}}),
    "annot empty 0.5": _JSON.replace('"kind"', '"annotations":{}, "kind"'),
    "annot null val": _JSON.replace('"kind"', '"annotations":{"a":null}, "kind"').replace(
        "0.5.0", "0.6.0"
    ),
    "annot int val": _JSON.replace('"kind"', '"annotations":{"a":5}, "kind"').replace(
        "0.5.0", "0.6.0"
    ),
    "annot bool val": _JSON.replace('"kind"', '"annotations":{"a":true}, "kind"').replace(
        "0.5.0", "0.6.0"
    ),
    "annot bool yes": _YAML.replace("kind:", "annotations: {a: yes}\nkind:").replace(
        "0.5.0", "0.6.0"
    ),
    "annot int key": _YAML.replace("kind:", "annotations: {1: a}\nkind:").replace("0.5.0", "0.6.0"),
    "annot bool key": _YAML.replace("kind:", "annotations: {true: a}\nkind:").replace(
        "0.5.0", "0.6.0"
    ),
    "annot yes key": _YAML.replace("kind:", "annotations: {yes: a}\nkind:").replace(
        "0.5.0", "0.6.0"
    ),
    "annot null key": _YAML.replace("kind:", "annotations: {~: a}\nkind:").replace(
        "0.5.0", "0.6.0"
    ),
    "annot float key": _YAML.replace("kind:", "annotations: {1.5: a}\nkind:").replace(
        "0.5.0", "0.6.0"
    ),
    "annot dup int keys": _YAML.replace("kind:", "annotations: {1: a, 0x1: b}\nkind:").replace(
        "0.5.0", "0.6.0"
    ),
    "annot dup int str": _YAML.replace("kind:", 'annotations: {1: a, "1": b}\nkind:').replace(
        "0.5.0", "0.6.0"
    ),
    "annot bad key": _JSON.replace('"kind"', '"annotations":{"a b":"5"}, "kind"').replace(
        "0.5.0", "0.6.0"
    ),
    "merge": _YAML.replace(
        "    deviceNodes:\n    - path: /dev/gpu0",
        "    deviceNodes:\n    - &a\n      path: /dev/gpu0",
    )
    + "  deviceNodes:\n  - <<: *a\n    path: /dev/gpu1\n",
    "merge list": _YAML.replace(
        "    deviceNodes:\n    - path: /dev/gpu0",
        "    deviceNodes:\n    - &a\n      path: /dev/gpu0",
    )
    + "  deviceNodes:\n  - <<: [*a, *a]\n    path: /dev/gpu1\n",
    "merge inline map": _YAML
    + "  deviceNodes:\n  - <<: {type: c, major: 1}\n    path: /dev/gpu1\n",
    "merge after": _YAML
    + "  deviceNodes:\n  - path: /dev/gpu1\n    <<: {type: c, major: 1, path: /dev/x}\n",
    "merge scalar": _YAML + "  deviceNodes:\n  - <<: 5\n    path: /dev/gpu1\n",
    "merge null": _YAML + "  deviceNodes:\n  - <<: \n    path: /dev/gpu1\n",
    "merge twice": _YAML
    + "  deviceNodes:\n  - <<: {type: c}\n    <<: {major: 1}\n    path: /dev/gpu1\n",
    "merge quoted": _YAML + '  deviceNodes:\n  - "<<": {type: c, major: 1}\n    path: /dev/gpu1\n',
    "merge unknown": _YAML + "  deviceNodes:\n  - <<: {foo: c, major: 1}\n    path: /dev/gpu1\n",
    "merge in json": _JSON.replace('"path"', '"<<":{"type":"c"}, "path"').replace(
        '"type": "c", ', ""
    ),
    "merge seq of scalars": _YAML + "  deviceNodes:\n  - <<: [1]\n    path: /dev/gpu1\n",
    "merge top": "x: 1\n" + _YAML,
    "merge top2": "<<: {kind: vendor.example/gpu}\n"
    + _YAML.replace("kind: vendor.example/gpu\n", ""),
    "anchor x top": "x-common: &a {type: c}\n" + _YAML,
    "anchor alias": _YAML.replace("- path", "- &n\n      path") + "  deviceNodes:\n  - *n\n",
    "tabs yaml indent": _YAML.replace("  - A=b", "\t- A=b"),
    "tab after colon": _YAML.replace("kind: ", "kind:\t"),
    "tab comment": _YAML.replace("gpu\n", "gpu\t# x\n", 1),
    "crlf": _YAML.replace("\n", "\r\n"),
    "cr": _YAML.replace("\n", "\r"),
    "bom": "\ufeff" + _YAML,
    "bom json": "\ufeff" + _JSON,
    "bom in the middle": _YAML.replace("kind", "\ufeffkind"),
    "comments": "# hi\n" + _YAML.replace("type: c", "type: c # char"),
    "name on": _YAML.replace("gpu0\n", "on\n", 1),
    "name y": _YAML.replace("gpu0\n", "y\n", 1),
    "name 0": _YAML.replace("gpu0\n", "0\n", 1),
    "name 1.0": _YAML.replace("gpu0\n", "1.0\n", 1),
    "name 0x1": _YAML.replace("gpu0\n", "0x1\n", 1),
    "name 1e3": _YAML.replace("gpu0\n", "1e3\n", 1),
    "name null": _YAML.replace("name: gpu0\n", "name:\n", 1),
    "name date": _YAML.replace("gpu0\n", "2001-01-01\n", 1),
    "name ts": _YAML.replace("gpu0\n", "2001-12-14t21:59:43.10-05:00\n", 1),
    "name .inf": _YAML.replace("gpu0\n", ".inf\n", 1),
    "name .nan": _YAML.replace("gpu0\n", ".nan\n", 1),
    "path .inf": _YAML.replace("path: /dev/gpu0", "path: .inf"),
    "container path .nan": _YAML.replace("containerPath: /usr/lib/a", "containerPath: .nan"),
    "option -.INF": _YAML.replace("- bind", "- -.INF"),
    "env int": _YAML.replace("A=b", "5"),
    "env null": _YAML.replace("- A=b", "-"),
    "fileMode 0666": _YAML.replace("type: c", "type: c\n      fileMode: 0666"),
    "fileMode 0o666": _YAML.replace("type: c", "type: c\n      fileMode: 0o666"),
    "fileMode 0888": _YAML.replace("type: c", "type: c\n      fileMode: 0888"),
    "fileMode str": _YAML.replace("type: c", 'type: c\n      fileMode: "438"'),
    "major str": _YAML.replace("major: 195", 'major: "195"'),
    "major float": _YAML.replace("major: 195", "major: 195.0"),
    "major 1e2": _YAML.replace("major: 195", "major: 1e2"),
    "major 1.95e2 json": _JSON.replace('"major": 195', '"major": 1.95e2'),
    "major 195.0 json": _JSON.replace('"major": 195', '"major": 195.0'),
    "major 0b": _YAML.replace("major: 195", "major: 0b11"),
    "major _": _YAML.replace("major: 195", "major: 1_95"),
    "major +": _YAML.replace("major: 195", "major: +195"),
    "major 60": _YAML.replace("major: 195", "major: 1:35"),
    "major bool": _YAML.replace("major: 195", "major: true"),
    "major yes": _YAML.replace("major: 195", "major: yes"),
    "major big": _YAML.replace("major: 195", "major: 9223372036854775808"),
    "major 1e19": _YAML.replace("major: 195", "major: 1e19"),
    "major bigjson": _JSON.replace("195", "18446744073709551616"),
    "rdt enable yes": _edited({"intelRdt": {"closID": "a", "enableMonitoring": "yes"}}, "1.1.0"),
    "rdt enable yes yaml": _YAML.replace("0.5.0", "1.1.0")
    + "  intelRdt:\n    enableMonitoring: yes\n",
    "rdt cmt yes yaml": _YAML.replace("0.5.0", "0.7.0") + "  intelRdt:\n    enableCMT: yes\n",
    "rdt cmt on yaml": _YAML.replace("0.5.0", "0.7.0") + "  intelRdt:\n    enableCMT: on\n",
    "rdt cmt str": _YAML.replace("0.5.0", "0.7.0") + '  intelRdt:\n    enableCMT: "true"\n',
    "rdt cmt 1": _YAML.replace("0.5.0", "0.7.0") + "  intelRdt:\n    enableCMT: 1\n",
    "single to list env": _YAML.replace("  env:\n  - A=b", "  env: A=b"),
    "dup key": _YAML + "kind: x.y/z\n",
    "dup case key": _YAML + "Kind: x.y/z\n",
    "cdiVersion 0.5": _YAML.replace("0.5.0", "0.5"),
    "cdiVersion quoted": _YAML.replace("0.5.0", '"0.5.0"'),
    "raw DEL": _JSON.replace("A=b", "A=\x7f"),
    "raw C1": _JSON.replace("A=b", "A=\x81"),
    "raw NEL": _JSON.replace("A=b", "A=\x85"),
    "raw 2028": _JSON.replace("A=b", "A=\u2028"),
    "raw FEFF": _JSON.replace("A=b", "A=\ufeffb"),
    "raw fffe": _JSON.replace("A=b", "A=\ufffeb"),
    "raw ffff": _JSON.replace("A=b", "A=\uffffb"),
    "raw emoji": _JSON.replace("A=b", "A=💥"),
    "esc pair": _JSON.replace("A=b", "A=\\ud83d\\ude00"),
    "esc half": _JSON.replace("A=b", "A=\\ud83d"),
    "esc U": _JSON.replace("A=b", "A=\\U0001F600"),
    "esc e": _JSON.replace("A=b", "A=\\e"),
    "esc b f": _JSON.replace("A=b", "A=\\b\\f"),
    "esc zero": _JSON.replace("A=b", "A=\\u0000"),
    "esc x": _JSON.replace("A=b", "A=\\x41"),
    "single quotes": _JSON.replace('"', "'"),
    "trailing comma": _JSON[:-1] + ",}",
    "trailing comma list": _JSON.replace('"bind"]', '"bind",]'),
    "json comment": "# c\n" + _JSON,
    "json // comment": "// c\n" + _JSON,
    "json no space after colon": json.dumps(_DOCUMENT, separators=(",", ":")),
    "json tabs": json.dumps(_DOCUMENT, indent="\t"),
    "json tabs crlf": json.dumps(_DOCUMENT, indent="\t").replace("\n", "\r\n"),
    "json key newline colon": _JSON.replace('"kind":', '"kind"\n:'),
    "json long key": _JSON.replace(
        '"kind"', '"annotations":{"' + "a" * 1100 + '":"b"},"kind"'
    ).replace("0.5.0", "0.6.0"),
    "json key in list of one": json.dumps([_DOCUMENT]),
    "json empty kind key": _JSON.replace('"kind"', '"":1,"kind"'),
    "unquoted flow": "{cdiVersion: 0.5.0, kind: vendor.example/gpu, devices: [{name: gpu0, containerEdits: {env: [A=b]}}]}",
    "flow comment": "{cdiVersion: 0.5.0, # x\n kind: vendor.example/gpu, devices: [{name: gpu0, containerEdits: {env: [A=b]}}]}",
    "tag !!str name": _YAML.replace("gpu0\n", "!!str 0\n", 1),
    "tag !!int major": _YAML.replace("195", '!!int "195"'),
    "tag !!float major": _YAML.replace("195", "!!float 195"),
    "tag !foo": _YAML.replace("gpu0\n", "!foo gpu0\n", 1),
    "tag !!binary": _YAML.replace("gpu0\n", "!!binary Z3B1\n", 1),
    "tag !!map": _YAML.replace("containerEdits:\n  env", "containerEdits: !!map\n  env"),
    "tag !!set": _YAML.replace("containerEdits:\n  env", "containerEdits: !!set\n  env"),
    "tag !!omap": _YAML.replace("  env:\n", "  env: !!omap\n"),
    "tag !!seq": _YAML.replace("  env:\n", "  env: !!seq\n"),
    "tag !!bool": _YAML.replace("0.5.0", "0.7.0") + "  intelRdt:\n    closID: !!bool yes\n",
    "block scalar env": _YAML.replace("A=b", "|\n    A=b\n"),
    "folded": _YAML.replace("A=b", ">-\n    A=b\n    c\n"),
    "complex key": _YAML + "? [a]\n: b\n",
    "explicit key": _YAML.replace("kind: vendor.example/gpu", "? kind\n: vendor.example/gpu"),
    "deep": _YAML + "x: " + "[" * 200 + "]" * 200,
    "utf16": _YAML.encode("utf-16"),
    "utf16le nobom": _YAML.encode("utf-16-le"),
    "invalid utf8": _JSON.encode().replace(b"A=b", b"A=\xff"),
    "latin1 comment": b"# \xe9\n" + _YAML.encode(),
    "nul": _YAML.encode() + b"\0",
    "empty": "",
    "comment only": "# x\n",
    "null": "null",
    "text": "abc",
    "devices null": _YAML + "",
    "deviceNodes null item": _edited({"deviceNodes": [None]}, "0.5.0"),
    "devices null item": _JSON.replace('"devices": [', '"devices": [null, '),
    "name empty str": _JSON.replace('gpu0"', '"', 1),
    "tilde": _YAML.replace("  env:\n  - A=b", "  env: ~"),
    "bigint name": _YAML.replace("gpu0\n", "123456789012345678901234567890\n", 1),
    "name 1_000": _YAML.replace("gpu0\n", "1_000\n", 1),
    "name 007": _YAML.replace("gpu0\n", "007\n", 1),
    "name 08": _YAML.replace("gpu0\n", "08\n", 1),
    "name NO": _YAML.replace("gpu0\n", "NO\n", 1),
    "name True": _YAML.replace("gpu0\n", "True\n", 1),
    "alias bomb": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\n"
    + _YAML,
    "alias self": _YAML.replace("  env:\n", "  env: &a\n").replace("- A=b", "- *a"),
}
