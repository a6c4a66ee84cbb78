//! Licenses as an application sees them: a truth table over everything that it may be given and may know.
//!
//! The table is written to `golden/licenses.json`, so that verifiers in other languages can show that they agree.

mod cases;
mod issuing;
mod statements;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use data_encoding::HEXLOWER;
use tally_protocol::license::{Challenge, Code, License, Verdict, verify};
use tally_protocol::signed::{Signed, Statement};
use tally_protocol::voucher::Voucher;

use crate::samples;
use cases::{Case, DAY, HOUR, T, Table};

#[test]
fn every_case_of_the_truth_table_has_the_code_that_the_documents_say() {
    let table = Table::new();
    for case in &table.cases {
        let verdict = table.judge(case);
        assert_eq!(verdict.code, case.code, "{case:?}");
        assert_eq!(
            verdict.until.is_some(),
            case.code.allows_start(),
            "{case:?}"
        );
        let unbelieved = case.code >= Code::UnknownKey;
        assert_eq!(verdict.license.is_none(), unbelieved, "{case:?}");
        assert!(verdict.seen >= table.known(case).seen, "{case:?}");
    }
    let reached: BTreeSet<Code> = table.cases.iter().map(|case| case.code).collect();
    assert_eq!(reached, BTreeSet::from(Code::ALL));
}

#[test]
fn the_truth_table_is_written_as_ever() {
    crate::compare_text("licenses.json", &Table::new().to_json());
}

#[test]
fn only_valid_and_grace_let_an_application_start() {
    let start: Vec<Code> = Code::ALL
        .into_iter()
        .filter(|code| code.allows_start())
        .collect();
    assert_eq!(start, [Code::Valid, Code::Grace]);
    for code in Code::ALL {
        let text = serde_json::to_string(&code).unwrap();
        assert_eq!(text, format!("\"{code}\""));
    }
}

#[test]
fn the_clock_may_run_on_but_not_back() {
    let table = Table::new();
    let at = |now: u64, seen: u64| {
        let case = Case {
            list: None,
            now,
            seen,
            ..Case::best()
        };
        let Verdict { code, seen, .. } = table.judge(&case);
        (code, seen.as_millis())
    };
    let start = T + 2 * DAY;
    assert_eq!(at(start, 0), (Code::Valid, start));
    // A little back, as clocks are set, then too far back, which is not forgotten, then forward again.
    assert_eq!(at(start - 2 * HOUR, start), (Code::Valid, start));
    let back = at(start - 2 * HOUR - 1, start);
    assert_eq!(back, (Code::ClockRollback, start));
    assert_eq!(at(start + HOUR, start), (Code::Valid, start + HOUR));
    // Far ahead nothing starts, and nothing is remembered: so the right time is no rollback.
    let ahead = start + 20_000 * DAY;
    assert_eq!(at(ahead, start), (Code::Expired, start));
    assert_eq!(at(start, start), (Code::Valid, start));
}

#[test]
fn until_is_when_the_application_has_to_stop() {
    let table = Table::new();
    for case in table.cases.iter().filter(|case| case.code.allows_start()) {
        let until = table.judge(case).until.unwrap().as_millis();
        let at = |now| {
            let later = Case {
                now,
                ..case.clone()
            };
            table.judge(&later).code
        };
        assert_eq!(at(until - 1), Code::Grace, "{case:?}");
        assert!(!at(until).allows_start(), "{case:?}");
    }
}

#[test]
fn no_license_with_a_flipped_bit_is_believed() {
    let table = Table::new();
    let text = table.texts["bound"].clone().into_bytes();
    let pins = table.pins();
    let known = table.known(&Case::best());
    assert!(
        verify(&String::from_utf8(text.clone()).unwrap(), &pins, &known)
            .license
            .is_some()
    );
    for (place, bit) in (0..text.len()).flat_map(|place| (0..7).map(move |bit| (place, bit))) {
        let mut changed = text.clone();
        changed[place] ^= 1 << bit;
        let verdict = verify(&String::from_utf8(changed).unwrap(), &pins, &known);
        assert!(verdict.license.is_none(), "byte {place}, bit {bit}");
        assert!(!verdict.code.allows_start(), "byte {place}, bit {bit}");
    }
    for length in 0..text.len() - 1 {
        let cut = String::from_utf8(text[..length].to_vec()).unwrap();
        assert_eq!(verify(&cut, &pins, &known).code, Code::Malformed);
    }
}

#[test]
fn no_status_list_or_proof_with_a_flipped_bit_counts() {
    let table = Table::new();
    let revoked = Case {
        list: Some("revoked.life".to_owned()),
        ..Case::best()
    };
    assert_eq!(table.judge(&revoked).code, Code::Revoked);
    let (known, pins) = (table.known(&revoked), table.pins());
    let list = known.status.unwrap().as_bytes().to_vec();
    let text = &table.texts["bound"];
    for bit in 0..list.len() * 8 {
        let mut changed = list.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let changed = Signed::from_bytes(changed);
        let mut known = known;
        known.status = Some(&changed);
        assert_eq!(
            verify(text, &pins, &known).code,
            Code::StatusStale,
            "bit {bit}"
        );
    }
    let Challenge { nonce, proof } = known.challenge.unwrap();
    let proof = proof.as_bytes().to_vec();
    for bit in 0..proof.len() * 8 {
        let mut changed = proof.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let proof = &Signed::from_bytes(changed);
        let mut known = known;
        known.challenge = Some(Challenge { nonce, proof });
        let verdict = verify(text, &pins, &known);
        assert_eq!(verdict.code, Code::DeviceMismatch, "bit {bit}");
    }
}

/// Without the Python package cwt in the folder that `TALLY_COSE` names the tests below say that they do nothing.
#[test]
fn the_example_for_vendors_agrees_on_every_case() {
    let table = Table::new();
    let Some(ran) = python("licenses.py", &[], &table.to_json()) else {
        return;
    };
    let said = String::from_utf8_lossy(&ran.stdout);
    let complaint = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}{complaint}");
    assert_eq!(said, format!("{} cases agree\n", table.cases.len()));
}

#[test]
fn a_stock_cose_library_verifies_licenses_vouchers_and_the_issuers_certificate() {
    let (license, voucher) = (samples::license(), samples::voucher());
    let (license_id, voucher_id) = (license.id.to_string(), voucher.id.to_string());
    let texts = [
        (samples::sign(license).to_text(), License::TYPE, license_id),
        (samples::sign(voucher).to_text(), Voucher::TYPE, voucher_id),
    ];
    let root = HEXLOWER.encode(samples::root().verifying_key().as_bytes());
    let other = HEXLOWER.encode(samples::key().verifying_key().as_bytes());
    for (text, kind, id) in &texts {
        let ask = |text: &str, args: [&str; 3]| {
            let [key, kind, network] = args;
            python("verify.py", &["/dev/stdin", key, kind, network], text)
        };
        let Some(ran) = ask(text, [&root, kind, "example"]) else {
            return;
        };
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        let said: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!(said["id"], id.as_str());
        assert_eq!(said["issuer"]["vendor"], "Example Ltd");
        let middle = text.len() / 2;
        let letter = if text.as_bytes()[middle] == b'A' {
            "B"
        } else {
            "A"
        };
        let mut changed = text.clone();
        changed.replace_range(middle..=middle, letter);
        let refused = [
            (text, [other.as_str(), kind, "example"]),
            (text, [&root, "application/tally-task+cbor", "example"]),
            (text, [&root, kind, "elsewhere"]),
            (&changed, [&root, kind, "example"]),
        ];
        for (text, args) in refused {
            let ran = ask(text, args).unwrap();
            let said = String::from_utf8_lossy(&ran.stderr);
            assert!(said.starts_with("not believed"), "{args:?}: {said}");
        }
    }
}

/// Runs a program of `tests/cose` with an input; none if there is no COSE library to run it with.
#[expect(
    clippy::print_stderr,
    reason = "whoever runs the tests should know what was left out"
)]
fn python(program: &str, args: &[&str], input: &str) -> Option<Output> {
    let Some(packages) = std::env::var_os("TALLY_COSE") else {
        eprintln!(
            "not run: TALLY_COSE does not name a folder with the Python package cwt; tests/all makes one"
        );
        return None;
    };
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/cose");
    let mut python = Command::new("python3")
        .arg(folder.join(program))
        .args(args)
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    // A program that ends before it has read everything says why on its standard error.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    Some(python.wait_with_output().unwrap())
}
