"""Verifies a signed statement of Tally with a stock COSE library, and prints what it says.

    verify.py STATEMENT KEY TYPE NETWORK

STATEMENT is a file with a COSE_Sign1 (RFC 9052), KEY the ed25519 public key of whoever should have signed it, in hex. If
the file is the text of a license or a voucher, KEY is the vendor's root key: the certificate inside is verified first,
and says who should have signed.
Nothing here knows how Tally writes its statements: only what docs/formats.md says of headers and payloads.
Needs the packages cwt and cbor2 from PyPI. Ends with 1, and a reason, if the statement is not believed.
"""

import base64
import json
import sys

import cbor2
from cwt import COSE, COSEKey

ED25519 = {1: 1, 3: -8, -1: 6}  # kty OKP, alg EdDSA, crv Ed25519 (RFC 9053)
KID, TYP = 4, 16
MARK = b"-----BEGIN TALLY "
CERTIFICATE = "application/tally-issuer-certificate+cbor"


def header_of(statement: bytes) -> dict:
    return cbor2.loads(cbor2.loads(statement).value[0])


def believe(statement: bytes, key: bytes, kind: str, network: str):
    header = header_of(statement)
    if header.get(KID) != key:
        raise ValueError("signed by somebody else")
    if header.get(TYP) != kind or header.get("net") != network:
        raise ValueError(f"a {header.get(TYP)} of network {header.get('net')}")
    payload = COSE.new().decode(statement, COSEKey.new({**ED25519, 2: key, -2: key}))
    return cbor2.loads(payload)


def believe_text(text: bytes, root: bytes, kind: str, network: str):
    statement = base64.b64decode(b"".join(text.split(b"\n")[1:-2]), validate=True)
    signer = header_of(statement)[KID]
    said = believe(statement, signer, kind, network)
    certificate = believe(said["issuer"], root, CERTIFICATE, network)
    if certificate["issuer"] != signer:
        raise ValueError("signed by somebody whom the root has not certified")
    if not certificate["not_before"] <= said["issued"] < certificate["not_after"]:
        raise ValueError("issued when the certificate did not hold")
    return {**said, "issuer": certificate}


def main() -> int:
    path, key, kind, network = sys.argv[1:]
    with open(path, "rb") as file:
        statement = file.read()
    check = believe_text if statement.startswith(MARK) else believe
    try:
        said = check(statement, bytes.fromhex(key), kind, network)
    except Exception as error:  # whatever the library thinks is wrong
        print(f"not believed: {error}", file=sys.stderr)
        return 1
    print(json.dumps(said, default=lambda value: value.hex()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
