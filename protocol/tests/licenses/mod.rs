//! Licenses as an application sees them: a truth table over everything that it may be given and may know.
//!
//! The table is written to `golden/licenses.json`, so that verifiers in other languages can show that they agree.

mod cases;
mod issuing;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tally_protocol::license::{Challenge, Code, Verdict, verify};
use tally_protocol::signed::Signed;

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

/// Without the Python package cwt in the folder that `TALLY_COSE` names it says that it does nothing.
#[test]
fn the_example_for_vendors_agrees_on_every_case() {
    let Some(packages) = std::env::var_os("TALLY_COSE") else {
        eprintln!(
            "not run: TALLY_COSE does not name a folder with the Python package cwt; tests/all makes one"
        );
        return;
    };
    let table = Table::new();
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/cose/licenses.py");
    let mut python = Command::new("python3")
        .arg(program)
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(table.to_json().as_bytes()).unwrap();
    drop(stdin);
    let ran = python.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}");
    assert_eq!(said, format!("{} cases agree\n", table.cases.len()));
}
