"""Shows that an app server answers as its OpenAPI document says, whatever it is asked.

    contract.py http://127.0.0.1:PORT TOKEN...

The document must be a valid one. Then schemathesis asks every route many things, once without a token and once with each:
no answer may be an error of the server, or have a status, type or shape that is not in the document; and what needs a
token must be refused without one. Ends with 1 if anything is wrong.

Needs the packages openapi-spec-validator and schemathesis from PyPI.
"""

import json
import subprocess
import sys
import urllib.request

from openapi_spec_validator import validate

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "ignored_auth",
]
# Drawn requests a route and bearer.
EXAMPLES = 15
# The same requests in each run.
SEED = 1


def main() -> int:
    url, tokens = sys.argv[1], sys.argv[2:]
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        document = json.load(answer)
    validate(document)
    print(f"valid: OpenAPI {document['openapi']}, {len(document['paths'])} paths")
    bad = [place for place, token in enumerate(["", *tokens]) if not holds(url, token)]
    for place in bad:
        print(f"the contract does not hold for {'bearer ' + str(place) if place else 'nobody'}")
    return 1 if bad else 0


def holds(url: str, token: str) -> bool:
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
    command += [f"{url}/openapi.json", "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"]
    command += ["--max-examples", str(EXAMPLES), "--seed", str(SEED), "--generation-database", "none"]
    # A delivery has tens of megabytes; it has a test of its own.
    command += ["--exclude-path", "/get/{product}", "--suppress-health-check", "all", "--warnings", "off"]
    if token:
        command += ["--header", f"Authorization: Bearer {token}"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(ran.stdout[-4000:] if ran.returncode else ran.stdout.strip().splitlines()[-1])
    return ran.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
