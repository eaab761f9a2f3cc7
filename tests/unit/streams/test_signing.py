"""Ed25519: the vectors of RFC 8032, and that nothing but the right key, message and signature is accepted."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.signing import (
    from_pem,
    is_locked,
    is_public_key,
    key_id,
    public_key_of,
    sign,
    signed_bytes,
    to_pem,
    verify,
)

# RFC 8032, section 7.1, tests 1 to 3: seed, public key, message, signature.
VECTORS = (
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe2"
        "4655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302ae"
        "eb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28"
        "dc027beceea1ec40a",
    ),
)
SEED = bytes(range(32))


@dataclass(frozen=True, slots=True)
class Statement:
    name: str
    count: int


@pytest.mark.parametrize(("seed", "public", "message", "signature"), VECTORS)
def test_the_published_vectors(seed: str, public: str, message: str, signature: str) -> None:
    assert public_key_of(bytes.fromhex(seed)) == public
    assert sign(bytes.fromhex(seed), bytes.fromhex(message)) == signature
    assert verify(public, bytes.fromhex(message), signature)


@given(message=st.binary(max_size=64), at=st.integers(0, 511))
def test_one_flipped_bit_of_a_signature_is_found(message: bytes, at: int) -> None:
    public, signature = public_key_of(SEED), bytearray.fromhex(sign(SEED, message))
    assert verify(public, message, signature.hex())
    signature[at // 8] ^= 1 << at % 8
    assert not verify(public, message, signature.hex())


@given(message=st.binary(max_size=64), other=st.binary(max_size=64))
def test_a_signature_holds_for_one_message_and_one_key(message: bytes, other: bytes) -> None:
    signature = sign(SEED, message)
    assert verify(public_key_of(SEED), other, signature) == (message == other)
    assert not verify(public_key_of(bytes(32)), message, signature)


@pytest.mark.parametrize("wrong", ["", "00", "g" * 64, "A" * 64, "ab" * 33])
def test_what_is_no_key_or_no_signature_is_false_not_an_error(wrong: str) -> None:
    assert not is_public_key(wrong)
    assert not verify(wrong, b"x", sign(SEED, b"x"))
    assert not verify(public_key_of(SEED), b"x", wrong)


def test_key_ids_are_short_and_differ() -> None:
    ids = {key_id(public_key_of(bytes([n]) * 32)) for n in range(20)}
    assert len(ids) == 20
    assert {len(each) for each in ids} == {16}


def test_a_statement_is_signed_for_one_purpose() -> None:
    said = Statement("é", 1)
    assert signed_bytes("vote", said) == b'isos vote\n{"count":1,"name":"\xc3\xa9"}'
    assert signed_bytes("vote", said) != signed_bytes("audit head", said)


def test_a_private_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        sign(bytes(31), b"x")


# RFC 8410, section 10.3: the private key of the example, whose seed is the octet string in it.
RFC_8410 = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
"""


def test_keys_in_pem() -> None:
    assert from_pem(RFC_8410).hex() == "d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842"
    assert to_pem(from_pem(RFC_8410)) == RFC_8410
    assert from_pem(to_pem(SEED)) == SEED


# Made by OpenSSL 3.0: openssl genpkey -algorithm ed25519 -aes256 -pass pass:correct-horse
OPENSSL_LOCKED = b"""-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgVSoyKbUId9QICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEKw08tjdmVNJmjC8h/SmauUEQOzu
pMhUca6y20M9LeIxRe6LYhO1JL6V4+jmq6ZrfLhfR6NFRU+ORH+B5bdj0a6ERdES
NtSYIhQihZnvwmr9pGg=
-----END ENCRYPTED PRIVATE KEY-----
"""
OPENSSL_SEED = "d034d3d32a8d6a69e8e49d14c33ceb6772ae15cb277960ad2b2b8e18110d478d"


def test_keys_with_a_passphrase() -> None:
    locked = to_pem(SEED, b"correct horse")
    assert (is_locked(locked), is_locked(RFC_8410), is_locked(to_pem(SEED))) == (True, False, False)
    assert from_pem(locked, b"correct horse") == SEED
    assert locked != to_pem(SEED, b"correct horse")  # salted
    for wrong in (b"correct hors", b"", b"correct horse\n"):
        with pytest.raises(ValueError, match=r".+"):
            from_pem(locked, wrong)
    with pytest.raises(ValueError, match="too much"):
        from_pem(RFC_8410, b"correct horse")


def test_a_locked_key_of_openssl() -> None:
    assert is_locked(OPENSSL_LOCKED)
    assert from_pem(OPENSSL_LOCKED, b"correct-horse").hex() == OPENSSL_SEED


@pytest.mark.parametrize("wrong", [b"", b"not a key", RFC_8410[:60]])
def test_what_is_no_key_in_pem(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_pem(wrong)
