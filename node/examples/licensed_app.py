"""An application that starts only with a license: what a vendor writes in Python instead of linking tally-protocol.

    licensed_app.py [LICENSE [STATUS_LIST]]

`check` below is the whole check, with nothing but a stock COSE library (cwt, and the cbor2 that comes with it). It finds
the same codes as `tally_protocol::license::verify`: a test runs both over one truth table. It leaves out bounds that only
an issuer's own mistake could break. docs/formats.md describes the bytes, docs/licenses.md the codes and what an
application should keep.

Started by `tally start`, it finds both files, and the socket that answers its challenge, in the environment:
TALLY_LICENSE, TALLY_STATUS_LIST, TALLY_SOCKET. licensed_app.rs beside it is the same in Rust.

Ends with 0 if the license lets the application start, else with 1, and prints what it found.
"""

import base64
import json
import os
import secrets
import socket
import sys
import time
from dataclasses import dataclass, field

import cbor2
from cwt import COSE, COSEKey

HOUR_MS = 3_600_000
CLOCK_BACK_MS = 2 * HOUR_MS  # further back than the latest time known: the clock was set back
CLOCKS_APART_MS = 600_000  # honest clocks differ by less
TEXT_CHARS_MAX = 32_768
FIELDS = {  # what must be there, of what is used below
    "license": "id product devices issued not_before expires grace_seconds status issuer",
    "issuer-certificate": "issuer app_server not_before not_after",
    "status-list": "issued bits issuer",
    "device-proof": "license nonce",
}


@dataclass
class Pins:
    """What the vendor compiles in. Never read any of it from the license or from a file of the user."""

    roots: list[bytes]
    network: str
    product: str


@dataclass
class Known:
    """What the application knows when it asks; times in milliseconds since 1970."""

    now: int
    seen: int = 0  # Verdict.seen of the last time
    status_list: bytes | None = None  # the newest that it has
    nonce: bytes | None = None  # 32 random bytes that it sent to the terminal ...
    proof: bytes | None = None  # ... and the answer


@dataclass
class Verdict:
    code: str
    seen: int  # to be kept, and given back as Known.seen
    license: dict = field(default_factory=dict)  # empty unless it can be believed
    until: int | None = None  # until when the application may start if nothing new arrives

    @property
    def allows_start(self) -> bool:
        return self.code in ("valid", "grace")


class Finding(Exception):
    """Why a statement is not believed: the code."""


def check(text: str, pins: Pins, known: Known) -> Verdict:
    """Says what is the case with a license; what to do about it is for the caller to decide."""
    try:
        license, certificate = believe(unwrap(text), "license", pins)
    except Finding as finding:
        return Verdict(str(finding), known.seen)

    status, listed = status_of(license, certificate["app_server"], pins, known)
    told = license["issued"] if status is None else max(license["issued"], listed)
    stale = told + license["status"]["max_age_seconds"] * 1000
    grace = license["grace_seconds"] * 1000
    latest = max(license["issued"], listed, known.seen)
    now, expires = known.now, license["expires"]
    findings = [  # the first that applies
        ("product_mismatch", license["product"] != pins.product),
        ("device_mismatch", not on_its_device(license, pins, known)),
        ("revoked", status == 2),
        ("suspended", status == 1),
        ("clock_rollback", now + CLOCK_BACK_MS < latest),
        ("not_yet", now + CLOCKS_APART_MS < license["not_before"]),
        ("expired", now >= expires + grace),
        ("status_stale", now >= stale + grace),
        ("grace", now >= expires or now >= stale),
        ("valid", True),
    ]
    verdict = Verdict(next(code for code, applies in findings if applies), 0, license)
    verdict.seen = max(known.seen, listed, now if verdict.allows_start else 0)
    verdict.until = min(expires, stale) + grace if verdict.allows_start else None
    return verdict


def unwrap(text: str) -> bytes:
    """Returns the bytes in an armoured text, which has exactly one form, but for blanks around it and CR LF."""
    if len(text) > TEXT_CHARS_MAX:
        raise Finding("malformed")
    try:
        lines = text.strip(" \t\r\n").replace("\r\n", "\n").split("\n")
        statement = base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError:
        raise Finding("malformed") from None
    base64_text = base64.b64encode(statement).decode()
    rows = [base64_text[start : start + 64] for start in range(0, len(base64_text), 64)]
    if lines != ["-----BEGIN TALLY LICENSE-----", *rows, "-----END TALLY LICENSE-----"]:
        raise Finding("malformed")
    return statement


def believe(statement: bytes, kind: str, pins: Pins) -> tuple[dict, dict]:
    """Returns what an issuer signed, and the certificate by which a pinned root vouches for the issuer."""
    said, signer = verified(statement, kind, pins.network)
    try:
        certificate, root = verified(said["issuer"], "issuer-certificate", pins.network)
    except Finding:
        raise Finding("unknown_key") from None
    held = certificate["not_before"] <= said["issued"] < certificate["not_after"]
    if root not in pins.roots or certificate["issuer"] != signer or not held:
        raise Finding("unknown_key")
    return said, certificate


def verified(statement: bytes, kind: str, network: str) -> tuple[dict, bytes]:
    """Returns what a statement says, and the key of whoever signed it (docs/formats.md, signed statements)."""
    try:
        protected, unprotected, _, _ = cbor2.loads(statement).value
        header = cbor2.loads(protected)
        key, typ, net = header[4], header[16], header["net"]
        if unprotected or len(header) != 4 or header[1] != -8 or typ != f"application/tally-{kind}+cbor":
            raise ValueError
    except Exception:
        raise Finding("malformed") from None
    if net != network:
        raise Finding("unknown_key")
    try:
        ed25519 = COSEKey.new({1: 1, 3: -8, -1: 6, -2: key, 2: key})  # kty OKP, alg EdDSA, crv Ed25519
        payload = COSE.new().decode(statement, ed25519)
    except Exception:
        raise Finding("bad_signature") from None
    try:
        said = dict(cbor2.loads(payload))
    except Exception:
        raise Finding("malformed") from None
    if not said.keys() >= set(FIELDS[kind].split()):
        raise Finding("malformed")
    return said, key


def status_of(license: dict, app_server: bytes, pins: Pins, known: Known) -> tuple[int | None, int]:
    """Returns what the status list says (0 valid, 1 suspended, 2 revoked, None nothing) and when it was issued."""
    if known.status_list is None:
        return None, 0
    try:
        said, certificate = believe(known.status_list, "status-list", pins)
    except Finding:
        return None, 0
    if certificate["app_server"] != app_server:
        return None, 0
    byte, place = divmod(license["status"]["index"], 4)
    status = said["bits"][byte] >> 2 * place & 3 if byte < len(said["bits"]) else 3
    return (None if status == 3 else status), said["issued"]


def on_its_device(license: dict, pins: Pins, known: Known) -> bool:
    """Returns whether the license is for any computer, or one of its computers has just signed the nonce."""
    if not license["devices"]:
        return True
    if known.proof is None:
        return False
    try:
        proof, device = verified(known.proof, "device-proof", pins.network)
    except Finding:
        return False
    answers = proof["license"] == license["id"] and proof["nonce"] == known.nonce
    return answers and device in license["devices"]


# The application. Its pins are those of the truth table in protocol/tests/golden/licenses.json.
PINS = Pins(
    roots=[bytes.fromhex("677a74d964e4a84ffa5025a8b5537b5c4a37ad6d146e854783ac734684a207c4")],
    network="example",
    product="photo-editor",
)
SEEN = os.path.expanduser("~/.photo-editor-seen")


def main() -> int:
    path = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("TALLY_LICENSE", "license")
    list_path = sys.argv[2] if len(sys.argv) > 2 else os.environ.get("TALLY_STATUS_LIST", "")
    known = Known(now=time.time_ns() // 1_000_000)
    if os.path.exists(SEEN):
        with open(SEEN, encoding="ascii") as file:
            known.seen = int(file.read())
    if os.path.exists(list_path):
        with open(list_path, "rb") as file:
            known.status_list = file.read()
    # A renewal lies beside the license that it follows: the better one counts.
    texts = [text for text in (read(path), read(path + ".next")) if text is not None]
    verdicts = [judge(text, known) for text in texts]
    if not verdicts:
        print("malformed: no license")
        return 1
    verdict = next((verdict for verdict in verdicts if verdict.allows_start), verdicts[0])
    if verdict.seen > known.seen:
        with open(SEEN, "w", encoding="ascii") as file:
            file.write(str(verdict.seen))
    print(verdict.code, json.dumps(verdict.license.get("entitlements", [])))
    return 0 if verdict.allows_start else 1


def read(path: str) -> str | None:
    if not os.path.exists(path):
        return None
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def judge(text: str, known: Known) -> Verdict:
    """Checks a license; if it is for certain computers, with the terminal's answer to a fresh challenge."""
    known.nonce = known.proof = None
    verdict = check(text, PINS, known)
    if verdict.code == "device_mismatch" and verdict.license.get("devices"):
        known.nonce = secrets.token_bytes(32)
        known.proof = prove(verdict.license["id"], known.nonce)
        verdict = check(text, PINS, known)
    return verdict


def prove(license: bytes, nonce: bytes) -> bytes | None:
    """Asks the terminal of this computer to sign a nonce: one line of JSON each way."""
    try:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(10)
            stream.connect(os.environ["TALLY_SOCKET"])
            question = {"ask": "prove", "license": license.hex(), "nonce": nonce.hex()}
            stream.sendall(json.dumps(question).encode() + b"\n")
            return base64.b64decode(json.loads(stream.makefile().readline())["ok"])
    except (OSError, KeyError, ValueError):
        return None


if __name__ == "__main__":
    sys.exit(main())
