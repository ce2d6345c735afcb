# SPDX-License-Identifier: Apache-2.0
"""Replaces what identifies a machine, a person or a network in a report.

Each value gets the same stand-in wherever it stands, and a stand-in has the form of what it
replaces. So the report stays consistent, and every check gives the same result on it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

GENERIC_NAMES = frozenset({
    *("localhost", "localdomain", "root", "nobody", "user", "users", "admin", "ubuntu", "debian"),
    *("fedora", "centos", "rocky", "core", "ec2-user", "azureuser", "opc", "host", "node"),
    *("linux", "gpu", "nvidia", "cuda", "docker", "podman", "containerd", "crio", "kubelet"),
    "kubernetes",  # /home/kubernetes/bin of GKE
    *("cdi", "cdi-gen", "proc", "sys", "dev", "run", "etc", "usr", "var", "home", "lib", "bin"),
    *("video", "render", "data", "test", "server", "worker", "master", "none", "all", "true"),
    *("false", "default", "container", "containers", "runtime", "kernel", "driver", "module"),
})  # fmt: skip
"""Names that identify nobody, and words of the reports themselves."""

REDACTED = "[redacted]"

_SECRETS = (
    "token", "passw(?:or)?d", "passphrase", "secret", "api[_-]?key", "credential",
    "private[_-]?key",
)  # fmt: skip
# Patterns of unlimited length would take quadratic time on what a hostile file repeats.
_SECRET_WORD = rf"(?:{'|'.join(_SECRETS)})[\w.-]{{0,64}}"
_SECRET_NAME = re.compile(rf"(?i)(?:[\w.-]{{0,64}}{_SECRET_WORD}|auth|authorization)")
_SERIAL_NAME = re.compile(
    r"(?i)[\w.-]{0,64}serial(?:[\s_-]?number)?|asset[\s_-]?tag|(?:product|board)_uuid"
)
_ASSIGNMENT = re.compile(
    rf"(?i)(?P<name>(?:{_SECRET_WORD}[\"']?|[\"'](?:auth|authorization)[\"'])\s*[=:]\s*)(?P<value>\"[^\"]*\"|'[^']*'|[^\s,;&\"']+)"
)
_OPTION = re.compile(
    rf"(?i)(?P<name>(?<![\w.-])--?[\w.-]{{0,64}}?{_SECRET_WORD}\s+)(?P<value>[^\s-]\S*)"
)
_AUTHORIZATION = re.compile(r"(?i)\b(?P<name>(?:bearer|basic)\s+)(?P<value>[\w.~+/=-]{8,})")
_WEB_TOKEN = re.compile(
    r"\b(?:eyJ[\w-]{5,1024}\.[\w-]{5,1024}\.[\w-]*"
    r"|(?:gh[pousr]_|github_pat_|glpat-|nvapi-|hf_)[\w-]{16,})"
)
_URL_USER = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]{0,20}://)[^\s/@\"']+@", re.IGNORECASE)
_PROXY = re.compile(
    r"(?i)(?P<name>\b\w*proxy[\"']?\s*[=:]\s*[\"']?(?:[a-z][a-z0-9+.-]*://)?(?:[^\s/@\"']+@)?)"
    r"(?P<host>[a-z0-9][a-z0-9.-]*[a-z0-9])"
)
_URL_HOST = re.compile(r"(?i)^(?P<name>[a-z][a-z0-9+.-]*://)(?P<host>[a-z0-9][a-z0-9.-]*[a-z0-9])")
_SERIAL = re.compile(
    r"(?i)(?P<name>\bserial(?:[\s_-]?number)?[\"']?\s*[=:]\s*[\"']?)(?P<value>[a-z0-9][\w.-]{3,})"
)
_HOME = re.compile(r"(?P<directory>/(?:home|Users)/)(?P<user>[^\s/:\"'\\,;]+)")
_UUID = re.compile(
    r"(?i)(?<![0-9a-z])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![0-9a-z])"
)
_MACHINE_ID = re.compile(r"(?<![0-9a-zA-Z])[0-9a-f]{32}(?![0-9a-zA-Z])")
_MAC = re.compile(
    r"(?i)(?<![0-9a-z:.-])(?:[0-9a-f]{2}([:-]))(?:[0-9a-f]{2}\1){4,6}[0-9a-f]{2}(?![0-9a-z:.-])"
)
_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV6 = re.compile(
    r"(?i)(?<![\w:.])(?=[0-9a-f:.]*:[0-9a-f:.]*:)[0-9a-f:]{2,}(?:\d{1,3}(?:\.\d{1,3}){3})?(?![\w:])"
)

_EUI_64 = re.compile(r"(?i)(?:[0-9a-f]{2}:){7}[0-9a-f]{2}")

Replacement = Callable[["re.Match[str]"], str]


class Redaction:
    """The stand-ins of one report.

    Args:
        host_names: names of the machine.
        user_names: names of its users.
    """

    def __init__(self, host_names: Iterable[str] = (), user_names: Iterable[str] = ()) -> None:
        self._stand_ins: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}
        # The kernel and a BIOS write the name in capitals, too.
        self._hosts = _matcher(host_names, re.IGNORECASE)
        self._users = _matcher(user_names)

    def text(self, text: str) -> str:
        """Return a text without what identifies, and without secrets."""
        if self._hosts:
            text = self._hosts.sub(lambda match: self._host(match[0]), text)
        for pattern, replacement in self._rules():
            text = pattern.sub(replacement, text)
        if self._users:
            text = self._users.sub(lambda match: self._user(match[0]), text)
        return text

    def value(self, value: object) -> object:
        """Return a JSON value, the names of whose members are redacted too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                self.text(str(name)): self._member(str(name), member)
                for name, member in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value

    def _member(self, name: str, value: object) -> object:
        if isinstance(value, str) and value:
            if _SECRET_NAME.fullmatch(name):
                return REDACTED
            if _SERIAL_NAME.fullmatch(name):
                return self._numbered("serial", value, "SERIAL-{}")
            if name.lower().endswith("proxy"):
                value = _URL_USER.sub(r"\g<scheme>", value)
                return self.text(_URL_HOST.sub(self._proxy, value))
        return self.value(value)

    def _rules(self) -> Iterator[tuple[re.Pattern[str], Replacement]]:
        """Yield the patterns in the order in which they apply."""
        yield _URL_USER, lambda match: f"{match['scheme']}{REDACTED}@"
        yield _WEB_TOKEN, lambda _: REDACTED
        yield _AUTHORIZATION, lambda match: f"{match['name']}{REDACTED}"
        yield _ASSIGNMENT, _secret
        yield _OPTION, _secret
        yield _PROXY, self._proxy
        yield (
            _SERIAL,
            lambda match: match["name"] + self._numbered("serial", match["value"], "SERIAL-{}"),
        )
        yield _HOME, lambda match: match["directory"] + self._user(match["user"])
        yield _UUID, lambda match: self._uuid(match[0])
        yield _MACHINE_ID, lambda match: self._numbered("machine", match[0], "{:032x}")
        yield _MAC, lambda match: self._mac(match[0])
        yield _IPV4, lambda match: self._address(match[0])
        yield _IPV6, lambda match: self._address(match[0])

    def _numbered(self, kind: str, value: str, form: str) -> str:
        """Return the stand-in of a value: the same for the same value of a kind."""
        key = (kind, value)
        if key not in self._stand_ins:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._stand_ins[key] = form.format(self._counts[kind])
        return self._stand_ins[key]

    def _host(self, name: str) -> str:
        return self._numbered("host", name.lower(), "host-{}")

    def _user(self, name: str) -> str:
        return name if name in GENERIC_NAMES else self._numbered("user", name, "user-{}")

    def _proxy(self, match: re.Match[str]) -> str:
        if match["host"] in GENERIC_NAMES or _is_address(match["host"]):
            return match[0]
        return match["name"] + self._numbered("proxy", match["host"].lower(), "proxy-{}")

    def _uuid(self, text: str) -> str:
        uuid = text.lower()
        if not uuid.strip("0-"):
            return text
        return self._numbered("uuid", uuid, "00000000-0000-4000-8000-{:012x}")

    def _mac(self, text: str) -> str:
        octets = re.split("[:-]", text.lower())
        if len(octets) not in {6, 8} or set(octets) in ({"00"}, {"ff"}):
            return text
        stand_in = self._numbered("mac", "".join(octets), "{:010x}")
        pairs = [stand_in[index : index + 2] for index in range(0, 10, 2)]
        return text[2].join(["02", *["00"] * (len(octets) - 6), *pairs])

    def _address(self, text: str) -> str:
        if _EUI_64.fullmatch(text) or not any(character.isdigit() for character in text):
            return text  # an InfiniBand port, or ``a::b`` of a program
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return text
        if address.is_loopback or address.is_unspecified or _is_mask(address):
            return text
        number = int(self._numbered(f"IPv{address.version}", str(address), "{}"))
        if address.version == 6:
            return str(ipaddress.IPv6Address(0x2001_0DB8 << 96 | number))
        # The three networks for documentation, then a reserved one.
        network = {0: "192.0.2", 1: "198.51.100", 2: "203.0.113"}.get((number - 1) // 254)
        if network:
            return f"{network}.{(number - 1) % 254 + 1}"
        return str(ipaddress.IPv4Address(0xF000_0000 + number))


def _secret(match: re.Match[str]) -> str:
    value = match["value"]
    quote = value[0] if value[0] in "\"'" else ""
    return (
        match[0]
        if value in {"true", "false", "null"}
        else f"{match['name']}{quote}{REDACTED}{quote}"
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_mask(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is a netmask or the broadcast address: ``255.255.0.0``."""
    return address.version == 4 and int(address) >> 24 == 255


def _matcher(names: Iterable[str], flags: int = 0) -> re.Pattern[str] | None:
    """Return what matches one of the names as a word; None if no name identifies anything."""
    words = {name for name in names if len(name) > 2 and name.lower() not in GENERIC_NAMES}
    if not words:
        return None
    longest_first = sorted(words, key=lambda name: (-len(name), name))
    alternatives = "|".join(map(re.escape, longest_first))
    return re.compile(rf"(?<![\w.-])(?:{alternatives})(?![\w-])", flags)
