# SPDX-License-Identifier: Apache-2.0
"""Parses the web configuration file of Prometheus's exporter-toolkit; pure.

The keys are those of its web-configuration.md in November 2026. As there, an unknown key is an
error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from cdi_gen.cdi.yamltext import YamlTextError, parse
from cdi_gen.errors import CdiGenError

HEADERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Strict-Transport-Security": (),
        "X-Content-Type-Options": ("nosniff",),
        "X-Frame-Options": ("deny", "sameorigin"),
        "X-XSS-Protection": (),
        "Content-Security-Policy": (),
    }
)
"""The headers that the file may set, with the values that they may have; empty: any value."""

VERSIONS = ("TLS10", "TLS11", "TLS12", "TLS13")

NO_CERTIFICATE = "NoClientCert"
IF_GIVEN = "VerifyClientCertIfGiven"
VERIFIED = "RequireAndVerifyClientCert"
CLIENT_AUTH_TYPES = (
    *(NO_CERTIFICATE, "RequestClientCert", "RequireClientCert", "RequireAnyClientCert"),
    *(IF_GIVEN, VERIFIED),
)
UNVERIFIED = ("RequireClientCert", "RequireAnyClientCert")
"""Types that ask for a certificate and accept any: Python's TLS has none."""

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?(?:ns|us|µs|ms|s|m|h))+|0")
_DURATION_PART = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class WebConfigError(CdiGenError):
    """The web configuration file, or a file that it names, cannot be used."""

    code = "CDG-O152"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pem:
    """A certificate or a key: in a file, or in the configuration file itself."""

    key: str
    """The key of the configuration, for messages: ``cert_file``."""
    path: str = ""
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """``tls_server_config``."""

    certificate: Pem
    private_key: Pem
    client_auth_type: str = NO_CERTIFICATE
    client_ca: Pem | None = None
    client_allowed_sans: tuple[str, ...] = ()
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """``rate_limit``: a token bucket."""

    interval: float
    """Seconds in which the bucket gets a token."""
    burst: int
    """The number of tokens that fit into the bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """The content of a web configuration file. Without one, nothing is restricted."""

    tls: Tls | None = None
    http2: bool = True
    """Without effect: the server speaks HTTP/1.1, which clients then choose."""
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    """bcrypt hashes of passwords by the names of users; empty: no password is needed."""
    rate_limit: RateLimit | None = None


def parse_web_config(content: bytes, source: str) -> WebConfig:
    """Return the content of a web configuration file.

    Args:
        content: the file's content.
        source: the path of the file, for messages, and for paths relative to its directory.

    Raises:
        WebConfigError: the text is not YAML, has an unknown key, or a value that cannot be used.
    """
    try:
        document, _ = parse(content.decode())
    except YamlTextError as error:
        place = f", {error.place}" if error.place else ""
        raise WebConfigError(f"{source}{place}: {error.message}", subject=source) from error
    except UnicodeDecodeError as error:
        raise WebConfigError(f"{source} is not UTF-8", subject=source) from error
    try:
        return _web_config(_Section(document, ""), os.path.dirname(source))
    except WebConfigError as error:
        message = f"{source}: {error.message}"
        raise WebConfigError(message, hint=error.hint, subject=source) from error


class _Section:
    """A mapping of the file: its values are checked when they are taken."""

    def __init__(self, value: object, path: str) -> None:
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise WebConfigError(f"{path or 'the content'} must be a mapping")
        self.values: dict[object, object] = value
        self._path = path

    def place(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def only(self, *keys: str) -> _Section:
        """Return the section, if it has no other keys."""
        for key in self.values:
            if key not in keys:
                raise WebConfigError(
                    f"{self.place(str(key))} is not a key of the web configuration",
                    hint=f"the keys {'of ' + self._path if self._path else 'there'} are: "
                    f"{', '.join(keys)}",
                )
        return self

    def section(self, key: str) -> _Section:
        return _Section(self.values.get(key), self.place(key))

    def text(self, key: str, default: str = "", choices: Sequence[str] = ()) -> str:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise WebConfigError(f"{self.place(key)} must be a text; put it in quotes")
        if choices and value not in choices:
            names = ", ".join(filter(None, choices))
            raise WebConfigError(f"{self.place(key)} is {value!r}; it must be one of {names}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise WebConfigError(f"{self.place(key)} must be a list of texts")
        return tuple(value)

    def boolean(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise WebConfigError(f"{self.place(key)} must be true or false")
        return value

    def integer(self, key: str) -> int:
        value = self.values.get(key)
        if value is None:
            return 0
        if type(value) is not int:
            raise WebConfigError(f"{self.place(key)} must be a number")
        return value


def _web_config(root: _Section, directory: str) -> WebConfig:
    root.only("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
    http = root.section("http_server_config").only("http2", "headers")
    return WebConfig(
        tls=_tls(root.section("tls_server_config"), directory),
        http2=http.boolean("http2", default=True),
        headers=_headers(http.section("headers")),
        users=_users(root.section("basic_auth_users")),
        rate_limit=_rate_limit(root.section("rate_limit").only("interval", "burst")),
    )


def _tls(section: _Section, directory: str) -> Tls | None:
    section.only(
        *("cert", "key", "client_ca", "cert_file", "key_file", "client_auth_type"),
        *("client_ca_file", "client_allowed_sans", "min_version", "max_version"),
        *("cipher_suites", "prefer_server_cipher_suites", "curve_preferences"),
    )
    certificate = _pem(section, "cert_file", "cert", directory)
    private_key = _pem(section, "key_file", "key", directory)
    client_ca = _pem(section, "client_ca_file", "client_ca", directory)
    auth_type = section.text("client_auth_type", choices=("", *CLIENT_AUTH_TYPES))
    # As in exporter-toolkit, other keys alone do not switch TLS on.
    if not (certificate or private_key or client_ca or auth_type):
        return None
    if certificate is None:
        raise WebConfigError("tls_server_config needs cert_file, or cert")
    if private_key is None:
        raise WebConfigError("tls_server_config needs key_file, or key")
    auth_type = auth_type or NO_CERTIFICATE
    sans = section.texts("client_allowed_sans")
    _check_client_auth(auth_type, client_ca, sans)
    versions = [
        section.text(key, default, VERSIONS)
        for key, default in (("min_version", "TLS12"), ("max_version", "TLS13"))
    ]
    if VERSIONS.index(versions[0]) > VERSIONS.index(versions[1]):
        raise WebConfigError("tls_server_config.min_version is later than max_version")
    return Tls(
        certificate=certificate,
        private_key=private_key,
        client_auth_type=auth_type,
        client_ca=client_ca,
        client_allowed_sans=sans,
        min_version=versions[0],
        max_version=versions[1],
        cipher_suites=section.texts("cipher_suites"),
        prefer_server_cipher_suites=section.boolean("prefer_server_cipher_suites", default=True),
        curve_preferences=section.texts("curve_preferences"),
    )


def _pem(section: _Section, file_key: str, text_key: str, directory: str) -> Pem | None:
    path, text = section.text(file_key), section.text(text_key)
    if path:
        # A path relative to the directory of the configuration file, as in exporter-toolkit.
        return Pem(key=f"tls_server_config.{file_key}", path=os.path.join(directory, path))
    return Pem(key=f"tls_server_config.{text_key}", text=text) if text else None


def _check_client_auth(auth_type: str, client_ca: Pem | None, sans: tuple[str, ...]) -> None:
    key = "tls_server_config.client_auth_type"
    if auth_type in UNVERIFIED:
        raise WebConfigError(
            f"{key} is {auth_type!r}, which accepts any certificate and is not supported",
            hint=f"write {VERIFIED}, and the CA of the clients in client_ca_file",
        )
    if client_ca and auth_type == NO_CERTIFICATE:
        raise WebConfigError(
            f"{client_ca.key} is set, and no client needs a certificate",
            hint=f"add client_auth_type: {VERIFIED}",
        )
    if sans and auth_type != VERIFIED:
        raise WebConfigError(
            f"tls_server_config.client_allowed_sans needs client_auth_type: {VERIFIED}",
            hint="a client without a certificate has no name that could be compared",
        )


def _headers(section: _Section) -> dict[str, str]:
    section.only(*HEADERS)
    headers = {
        name: section.text(name, choices=("", *values) if values else ())
        for name, values in HEADERS.items()
    }
    for name, value in headers.items():
        if not value.isascii() or (value and not value.isprintable()):
            message = f"{section.place(name)} has a character that a header cannot have"
            raise WebConfigError(message)
    return {name: value for name, value in headers.items() if value}


def _users(section: _Section) -> dict[str, str]:
    users = {}
    for name, value in section.values.items():
        # The value is not shown: it may be a password that was not hashed.
        if not isinstance(name, str) or not isinstance(value, str) or not _BCRYPT.fullmatch(value):
            raise WebConfigError(
                f"basic_auth_users: the value of {name!r} is not a bcrypt hash",
                hint="hash the password: htpasswd -nBC 10 \"\" | tr -d ':\\n'",
            )
        users[name] = value
    return users


def _rate_limit(section: _Section) -> RateLimit | None:
    interval, burst = _seconds(section, "interval"), section.integer("burst")
    if not interval:
        return None
    if burst < 1:
        raise WebConfigError("rate_limit.burst must be 1 or more: every request would be refused")
    return RateLimit(interval=interval, burst=burst)


def _seconds(section: _Section, key: str) -> float:
    """Return the seconds of a duration of Go, ``1m30s``; a number is nanoseconds, as in Go."""
    value = section.values.get(key)
    if value is None:
        return 0.0
    if type(value) is int and value >= 0:
        return value * 1e-9
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise WebConfigError(f"{section.place(key)} must be a duration, for example 1s or 250ms")
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
