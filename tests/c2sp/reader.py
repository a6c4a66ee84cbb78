#!/usr/bin/env python3
"""Reads checkpoints and log proofs as the texts of C2SP and the RFCs say, knowing nothing of Tally.

    reader.py checkpoint --key KEY NOTE
    reader.py proof --key KEY --entry ENTRY PROOF

KEY is NAME+ID+BASE64, the usual form of a key of signed notes: the key id in hex, and the byte 01 before the 32 bytes of
an Ed25519 key. NOTE, ENTRY and PROOF are files. Prints what was proved and ends with 0, or says why not and ends with 1.

Written from c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-proof, RFC 6962 (section 2.1) and RFC 8032. It
needs Python 3.8 and nothing else.
"""

import argparse
import base64
import binascii
import hashlib
import pathlib
import re
import sys

SIGNATURES_MAX = 16
NOTE_BYTES_MAX = 1 << 20
PATH_MAX = 64


class Refused(Exception):
    """What was read proves nothing."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("checkpoint", "proof"):
        command = kinds.add_parser(kind)
        command.add_argument("--key", required=True)
        if kind == "proof":
            command.add_argument("--entry", required=True, type=pathlib.Path)
        command.add_argument("file", type=pathlib.Path)
    options = parser.parse_args()
    try:
        key, text = Key(options.key), options.file.read_bytes()
        if options.kind == "checkpoint":
            origin, size, root = read_checkpoint(text, key)
            print(f"{origin} {size} {root.hex()}")
        else:
            index, (origin, size, _) = read_proof(text, options.entry.read_bytes(), key)
            print(f"{origin} {size} {index}")
    except Refused as refusal:
        sys.exit(f"refused: {refusal}")


# Keys and notes (c2sp.org/signed-note).


class Key:
    def __init__(self, text):
        name, key_id, encoded = text.split("+", 2)
        raw = decode_base64(encoded)
        if len(raw) != 33 or raw[0] != 1:
            raise Refused("the key is not an Ed25519 key")
        self.name, self.public = name, raw[1:]
        self.id = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
        if self.id.hex() != key_id:
            raise Refused("the key has another id")


def verified_text(note, key):
    """Returns the text of a note that `key` has signed."""
    if len(note) > NOTE_BYTES_MAX:
        raise Refused("the note is too long")
    try:
        note = note.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("the note is not UTF-8")
    if any(ord(character) < 0x20 and character != "\n" for character in note):
        raise Refused("the note has control characters")
    # The last empty line separates the text from the signatures.
    text, separator, signatures = note.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise Refused("the note has no signatures")
    text += "\n"
    lines = signatures[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise Refused("the note has too many signatures")
    found = False
    for line in lines:
        match = re.fullmatch(r"\u2014 ([^\s+]+) ([A-Za-z0-9+/=]+)", line)
        if not match:
            raise Refused("a line is no signature")
        raw = decode_base64(match[2])
        if len(raw) < 5:
            raise Refused("a signature is too short")
        if match[1] != key.name or raw[:4] != key.id:
            continue
        if not ed25519_verify(key.public, text.encode(), raw[4:]):
            raise Refused("the signature is wrong")
        found = True
    if not found:
        raise Refused("the key has not signed the note")
    return text


def decode_base64(text):
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("it is not base64")
    if base64.b64encode(raw).decode() != text:
        raise Refused("it is not canonical base64")
    return raw


# Checkpoints (c2sp.org/tlog-checkpoint).


def read_checkpoint(note, key):
    """Returns origin, size and root of the log that `key` has signed."""
    lines = verified_text(note, key)[:-1].split("\n")
    if len(lines) < 3 or "" in lines:
        raise Refused("the checkpoint has not three lines")
    origin, size, root = lines[0], decimal(lines[1]), decode_base64(lines[2])
    if origin != key.name:
        raise Refused("the checkpoint is of another log")
    if len(root) != 32:
        raise Refused("the root is not a hash")
    return origin, size, root


def decimal(text):
    if not re.fullmatch(r"0|[1-9][0-9]*", text, re.ASCII) or int(text) >= 1 << 64:
        raise Refused("a number is not in decimal")
    return int(text)


# Proofs (c2sp.org/tlog-proof).


def read_proof(text, entry, key):
    """Returns the index of the entry, and the checkpoint of the log in which it stands."""
    proof, separator, note = text.partition(b"\n\n")
    if not separator:
        raise Refused("the proof has no checkpoint")
    try:
        lines = proof.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise Refused("the proof is not ASCII")
    if lines.pop(0) != "c2sp.org/tlog-proof@v1":
        raise Refused("it is no proof")
    if lines and lines[0].startswith("extra "):
        decode_base64(lines.pop(0)[len("extra ") :])
    if not lines or not lines[0].startswith("index "):
        raise Refused("the proof has no index")
    index = decimal(lines.pop(0)[len("index ") :])
    path = [decode_base64(line) for line in lines]
    if len(path) > PATH_MAX or any(len(node) != 32 for node in path):
        raise Refused("the proof has lines that are no hashes")
    checkpoint = read_checkpoint(note, key)
    _, size, root = checkpoint
    if index >= size:
        raise Refused("the index is beyond the end of the log")
    leaf = hashlib.sha256(b"\0" + entry).digest()
    if root_of(leaf, index, size, path) != root:
        raise Refused("the hashes do not give the root")
    return index, checkpoint


def root_of(leaf, index, size, path):
    """PATH(index, D[size]) of RFC 6962, section 2.1.1, read backwards."""
    if size == 1:
        if path:
            raise Refused("the proof has too many hashes")
        return leaf
    if not path:
        raise Refused("the proof has too few hashes")
    beside, rest = path[-1], path[:-1]
    split = 1 << (size - 1).bit_length() - 1
    if index < split:
        return node(root_of(leaf, index, split, rest), beside)
    return node(beside, root_of(leaf, index - split, size - split, rest))


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


# Ed25519 (RFC 8032, section 5.1), slow and plain.

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)
NEUTRAL = (0, 1, 1, 0)


def ed25519_verify(public, message, signature):
    if len(public) != 32 or len(signature) != 64:
        return False
    point, commitment = decode_point(public), decode_point(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    if point is None or commitment is None or scalar >= ORDER:
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    challenge = int.from_bytes(digest, "little") % ORDER
    left, right = multiply(scalar, BASE), add(commitment, multiply(challenge, point))
    return same(left, right)


def decode_point(raw):
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    x = square_root((y * y - 1) * pow(D * y * y + 1, P - 2, P) % P)
    if x is None or (x == 0 and sign == 1):
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


def square_root(square):
    root = pow(square, (P + 3) // 8, P)
    if (root * root - square) % P:
        root = root * ROOT_OF_MINUS_1 % P
    return None if (root * root - square) % P else root


def add(one, other):
    """Adds points in extended coordinates (X, Y, Z, T)."""
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def multiply(scalar, point):
    product = NEUTRAL
    while scalar:
        if scalar & 1:
            product = add(product, point)
        point = add(point, point)
        scalar >>= 1
    return product


def same(one, other):
    return (one[0] * other[2] - other[0] * one[2]) % P == 0 and (one[1] * other[2] - other[1] * one[2]) % P == 0


BASE = decode_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))

if __name__ == "__main__":
    main()
