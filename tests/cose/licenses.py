"""Shows that the example for vendors finds in every case of the truth table what tally_protocol::license::verify does.

    licenses.py < protocol/tests/golden/licenses.json

Needs the packages cwt and cbor2 from PyPI. Names each case that differs, and ends with 1 if there is one.
"""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../node/examples"))
from licensed_app import PINS, Known, Pins, check  # noqa: E402


def main() -> int:
    table = json.load(sys.stdin)
    pins = Pins(**{**table["pins"], "roots": [bytes.fromhex(root) for root in table["pins"]["roots"]]})
    assert (PINS.roots[0] in pins.roots, PINS.network, PINS.product) == (True, pins.network, pins.product)
    differ = [complaint for case in table["cases"] if (complaint := compare(table, pins, case))]
    for complaint in differ:
        print(complaint)
    print(f"{len(table['cases']) - len(differ)} cases agree")
    return 1 if differ else 0


def compare(table: dict, pins: Pins, case: dict) -> str | None:
    known = Known(now=case["now"], seen=case["seen"])
    if case["list"]:
        known.status_list = bytes.fromhex(table["lists"][case["list"]])
    if case["proof"]:
        answer = table["proofs"][case["proof"]]
        known.nonce, known.proof = bytes.fromhex(answer["nonce"]), bytes.fromhex(answer["proof"])
    verdict = check(table["texts"][case["text"]], pins, known)
    found = {"code": verdict.code, "until": verdict.until, "seen_after": verdict.seen}
    expected = {name: case[name] for name in found}
    return None if found == expected else f"{case}: the example finds {found}"


if __name__ == "__main__":
    sys.exit(main())
