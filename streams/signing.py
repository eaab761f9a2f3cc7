"""Ed25519 signatures (RFC 8032) over canonical bytes: key id, sign, verify. Pure; the only ``cryptography``.

A private key is its seed of 32 bytes; public keys and signatures are lower-case hexadecimal (64 and 128 digits), as
they stand in records and in memory. What is signed begins with a purpose, so that a signature made for one kind of
statement never holds for another. Key files are made and read by ``infra.review_keys``.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from streams.canonical import to_json

SEED_BYTES: Final = 32
_PUBLIC_KEY: Final = re.compile(r"[0-9a-f]{64}")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{128}")


def public_key_of(private_key: bytes) -> str:
    """The public key of a private one. Raises ValueError unless it has 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw().hex()


def key_id(public_key: str) -> str:
    """A public key's short name: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes. Raises ValueError."""
    return hashlib.sha256(bytes.fromhex(public_key)).hexdigest()[:16]


def is_public_key(text: str) -> bool:
    """Whether a text is the hexadecimal form of a public key that signatures can be checked with."""
    if not _PUBLIC_KEY.fullmatch(text):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError:
        return False
    return True


def signed_bytes(purpose: str, statement: Any) -> bytes:
    """What is signed: ``isos <purpose>``, a line feed, and the canonical JSON of the statement."""
    return f"isos {purpose}\n{to_json(statement)}".encode()


def sign(private_key: bytes, message: bytes) -> str:
    """Signature of a message; the same key and message always give the same one. Raises ValueError on a wrong key."""
    return Ed25519PrivateKey.from_private_bytes(private_key).sign(message).hex()


def verify(public_key: str, message: bytes, signature: str) -> bool:
    """Whether ``signature`` is that key's for the message; false for whatever is no key or no signature."""
    if not _SIGNATURE.fullmatch(signature) or not is_public_key(public_key):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), message)
    except InvalidSignature:
        return False
    return True


def to_pem(private_key: bytes, passphrase: bytes = b"") -> bytes:
    """The private key as PKCS #8 in PEM, as ``openssl genpkey -algorithm ed25519`` writes it.

    With a passphrase (1 to 1,023 bytes) it is encrypted with what ``cryptography`` holds best (PBES2, AES-256-CBC).
    """
    key = Ed25519PrivateKey.from_private_bytes(private_key)
    lock: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


def is_locked(pem: bytes) -> bool:
    """Whether a key in PEM says that it has a passphrase (RFC 7468, section 11, or OpenSSL's older form)."""
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem or b"Proc-Type: 4,ENCRYPTED" in pem


def from_pem(pem: bytes, passphrase: bytes = b"") -> bytes:
    """The 32 bytes of a private key in PEM. Raises ValueError on anything else, and where the passphrase is wrong."""
    try:
        key = load_pem_private_key(pem, passphrase or None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("a passphrase is missing or too much, or a key of another kind") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("not an Ed25519 key")
    return key.private_bytes_raw()
