# SPDX-License-Identifier: Apache-2.0
"""Makes TLS contexts from ``tls_server_config``, and checks the names of clients."""

from __future__ import annotations

import ipaddress
import os
import ssl
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from cdi_base import files
from cdi_gen.metrics.web.config_file import IF_GIVEN, VERIFIED, Pem, Tls, WebConfigError

MAX_BYTES = 1 << 20
"""Of a file of certificates or keys."""

VERSIONS: Mapping[str, ssl.TLSVersion] = MappingProxyType(
    {
        "TLS10": ssl.TLSVersion.TLSv1,
        "TLS11": ssl.TLSVersion.TLSv1_1,
        "TLS12": ssl.TLSVersion.TLSv1_2,
        "TLS13": ssl.TLSVersion.TLSv1_3,
    }
)

CURVES: Mapping[str, str] = MappingProxyType(
    {
        "CurveP256": "prime256v1",
        "CurveP384": "secp384r1",
        "CurveP521": "secp521r1",
        "X25519": "X25519",
    }
)
"""OpenSSL's names by Go's."""

CIPHERS: Mapping[str, str] = MappingProxyType(
    {
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
        "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
        "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
        # Go lists those without forward secrecy as insecure since 1.22; before, they are accepted.
        "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
        "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
        "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
        "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    }
)
"""OpenSSL's names by Go's, of the suites up to TLS 1.2."""

TLS13_CIPHERS = frozenset(
    {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
)
"""Go accepts their names and always offers all of them; so does this."""


def context(tls: Tls) -> ssl.SSLContext:
    """Return the context of a server.

    Raises:
        WebConfigError: a file cannot be read, or has no certificate or key that fits.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Only HTTP/1.1: a client that would prefer HTTP/2 takes it.
    server.set_alpn_protocols(["http/1.1"])
    with warnings.catch_warnings():
        # The administrator asks for TLS 1.0 or 1.1.
        warnings.simplefilter("ignore", DeprecationWarning)
        server.minimum_version = VERSIONS[tls.min_version]
        server.maximum_version = VERSIONS[tls.max_version]
    if tls.prefer_server_cipher_suites:
        server.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    server.options |= ssl.OP_NO_RENEGOTIATION
    _set_ciphers(server, tls.cipher_suites)
    _set_curves(server, tls.curve_preferences)
    _load_certificate(server, tls)
    _set_client_auth(server, tls)
    return server


def _set_ciphers(server: ssl.SSLContext, names: tuple[str, ...]) -> None:
    key = "tls_server_config.cipher_suites"
    for name in names:
        if name not in CIPHERS and name not in TLS13_CIPHERS:
            raise WebConfigError(
                f"{key}: {name!r} is not a cipher suite",
                hint=f"the names are Go's: {', '.join(CIPHERS)}",
            )
    suites = [CIPHERS[name] for name in names if name in CIPHERS]
    if not suites:
        return
    try:
        server.set_ciphers(":".join(suites))
    except ssl.SSLError as error:
        message = f"{key}: OpenSSL of this host has none of the cipher suites"
        raise WebConfigError(message, hint="leave cipher_suites out") from error


def _set_curves(server: ssl.SSLContext, names: tuple[str, ...]) -> None:
    key = "tls_server_config.curve_preferences"
    for name in names:
        if name not in CURVES:
            message = f"{key}: {name!r} is not a curve; it must be one of {', '.join(CURVES)}"
            raise WebConfigError(message)
    if len(names) > 1:
        raise WebConfigError(
            f"{key} has {len(names)} curves; Python's TLS takes one, or all",
            hint="write one curve, or leave curve_preferences out",
        )
    for name in names:
        server.set_ecdh_curve(CURVES[name])


def _load_certificate(server: ssl.SSLContext, tls: Tls) -> None:
    certificate, private_key = _read(tls.certificate), _read(tls.private_key)
    try:
        with _as_file(certificate) as certificate_path, _as_file(private_key) as key_path:
            # Without a password OpenSSL would ask for one at the terminal.
            server.load_cert_chain(certificate_path, key_path, password=lambda: "")
    except ssl.SSLError as error:
        names = f"{_name(tls.certificate)} and {_name(tls.private_key)}"
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise WebConfigError(
            f"{names} are no certificate and its key: {reason}",
            hint="both must be in PEM; the key must be that of the first certificate, and have no "
            "password. Compare: openssl x509 -pubkey -noout -in CERT, openssl pkey -pubout -in KEY",
        ) from error


def _set_client_auth(server: ssl.SSLContext, tls: Tls) -> None:
    modes = {IF_GIVEN: ssl.CERT_OPTIONAL, VERIFIED: ssl.CERT_REQUIRED}
    server.verify_mode = modes.get(tls.client_auth_type, ssl.CERT_NONE)
    if server.verify_mode == ssl.CERT_NONE:
        return
    if tls.client_ca is None:
        # As Go: the CAs of the system.
        server.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    content = _read(tls.client_ca)
    try:
        server.load_verify_locations(cadata=content.decode("ascii", "replace"))
    except ssl.SSLError as error:
        message = f"{_name(tls.client_ca)} has no certificate in PEM, or one that is damaged"
        raise WebConfigError(message, hint="name the CA of the clients' certificates") from error


def _name(pem: Pem) -> str:
    return f"{pem.key} {pem.path}" if pem.path else pem.key


def _read(pem: Pem) -> bytes:
    if not pem.path:
        return pem.text.encode()
    try:
        return files.read(pem.path, MAX_BYTES, follow=True)
    except PermissionError as error:
        raise WebConfigError(
            f"{pem.key}: {pem.path}: {error.strerror}",
            hint=f"user {os.geteuid()}, as whom the service runs, must be able to read it: change "
            f"its group and mode (chgrp GROUP {pem.path}; chmod 0640 {pem.path}), or pass it with "
            "LoadCredential= of the unit",
        ) from error
    except OSError as error:
        raise WebConfigError(f"{pem.key}: {pem.path}: {error.strerror}") from error


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Yield the path of a file in memory: Python's TLS loads keys from files only."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        files.write_all(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def names_of(certificate: Mapping[str, object]) -> Iterator[str]:
    """Yield the subject alternative names of a certificate, as Go writes them.

    Args:
        certificate: what `ssl.SSLObject.getpeercert` returns.
    """
    pairs = certificate.get("subjectAltName", ())
    if not isinstance(pairs, tuple):
        return
    for kind, value in pairs:
        if kind in {"DNS", "email", "URI"}:
            yield value
        elif kind == "IP Address":
            # OpenSSL writes an IPv6 address without "::".
            try:
                yield str(ipaddress.ip_address(value.strip()))
            except ValueError:
                continue
