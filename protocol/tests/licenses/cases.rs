//! The truth table: what there is to be checked, what an application may know, and what it should find.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde::Serialize;
use tally_protocol::issuer::Trust;
use tally_protocol::license::{
    Challenge, Code, DeviceProof, Known, Pins, Status, StatusList, Verdict, verify,
};
use tally_protocol::signed::Signed;
use tally_protocol::time::Timestamp;

use super::statements::{at, key, list_name, lists, network, node, proofs, root, texts};

pub(crate) const HOUR: u64 = 3_600_000;
pub(crate) const DAY: u64 = 24 * HOUR;
/// When all licenses here are issued, in ms.
pub(crate) const T: u64 = 1_800_000_000_000;
pub(crate) const STARTS: u64 = T + DAY;
pub(crate) const EXPIRES: u64 = STARTS + 30 * DAY;
pub(crate) const GRACE: u64 = 7 * DAY;
pub(crate) const MAX_AGE: u64 = 3 * DAY;

/// Moments of a license's life.
pub(crate) const NOWS: [(&str, u64); 4] = [
    ("early", T + DAY / 2),
    ("life", T + 12 * DAY),
    ("late", EXPIRES + 2 * DAY),
    ("over", EXPIRES + GRACE + DAY),
];
/// Status lists: a name, how old, and what they say.
pub(crate) const LISTS: [(&str, u64, Status); 6] = [
    ("fresh", HOUR, Status::Valid),
    ("aging", 5 * DAY, Status::Valid),
    ("old", 11 * DAY, Status::Valid),
    ("suspended", HOUR, Status::Suspended),
    ("revoked", HOUR, Status::Revoked),
    ("revoked_old", 11 * DAY, Status::Revoked),
];

/// One row: what is given and known, and what is the case. Texts, lists and proofs by their names in the table.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Case {
    pub(crate) text: &'static str,
    pub(crate) list: Option<String>,
    pub(crate) proof: Option<&'static str>,
    pub(crate) now: u64,
    pub(crate) seen: u64,
    pub(crate) code: Code,
}

impl Case {
    /// Everything in order.
    pub(crate) fn best() -> Self {
        Self {
            text: "bound",
            list: Some(list_name("fresh", "life")),
            proof: Some("own"),
            now: T + 12 * DAY,
            seen: 0,
            code: Code::Valid,
        }
    }

    /// As much as can be wrong around a text.
    fn worst() -> Self {
        Self {
            list: Some(list_name("revoked", "life")),
            proof: None,
            seen: T + 13 * DAY,
            code: Code::DeviceMismatch,
            ..Self::best()
        }
    }
}

/// The cases, and what they name.
pub(crate) struct Table {
    pub(crate) texts: BTreeMap<&'static str, String>,
    lists: BTreeMap<String, Signed<StatusList>>,
    proofs: BTreeMap<&'static str, ([u8; 32], Signed<DeviceProof>)>,
    pub(crate) cases: Vec<Case>,
}

impl Table {
    pub(crate) fn new() -> Self {
        let mut cases = product_of_all();
        cases.extend(of_texts());
        cases.extend(of_lists_and_proofs());
        cases.extend(of_edges());
        Self {
            texts: texts(),
            lists: lists(),
            proofs: proofs(),
            cases,
        }
    }

    pub(crate) fn pins(&self) -> Pins {
        Pins {
            trust: Trust {
                roots: vec![node(&key(0x99)), node(&root())],
                network: network(),
            },
            product: "photo-editor".parse().unwrap(),
        }
    }

    pub(crate) fn known(&self, case: &Case) -> Known<'_> {
        let challenge = case.proof.map(|name| {
            let (nonce, proof) = &self.proofs[name];
            Challenge {
                nonce: *nonce,
                proof,
            }
        });
        Known {
            now: at(case.now),
            seen: at(case.seen),
            status: case.list.as_ref().map(|name| &self.lists[name]),
            challenge,
        }
    }

    pub(crate) fn judge(&self, case: &Case) -> Verdict {
        verify(&self.texts[case.text], &self.pins(), &self.known(case))
    }

    /// Writes the table: a line for each thing that is given, and for each case.
    pub(crate) fn to_json(&self) -> String {
        let pins = self.pins();
        let pins = WrittenPins {
            roots: pins
                .trust
                .roots
                .iter()
                .map(|key| hex(key.as_bytes()))
                .collect(),
            network: pins.trust.network.to_string(),
            product: pins.product.to_string(),
        };
        let texts = self.texts.iter();
        let lists = self.lists.iter();
        let proofs = self.proofs.iter();
        let row = |case| {
            let verdict = self.judge(case);
            let (until, seen_after) = (verdict.until, verdict.seen);
            json(&Row {
                case,
                until,
                seen_after,
            })
        };
        format!(
            "{{\n\"pins\": {},\n\"texts\": {{\n{}\n}},\n\"lists\": {{\n{}\n}},\n\"proofs\": {{\n{}\n}},\n\
             \"cases\": [\n{}\n]\n}}\n",
            json(&pins),
            lines(texts.map(|(name, text)| pair(name, text))),
            lines(lists.map(|(name, list)| pair(name, &hex(list.as_bytes())))),
            lines(proofs.map(|(name, (nonce, proof))| {
                let (nonce, proof) = (hex(nonce), hex(proof.as_bytes()));
                pair(name, &WrittenProof { nonce, proof })
            })),
            lines(self.cases.iter().map(row)),
        )
    }
}

#[derive(Serialize)]
struct WrittenPins {
    roots: Vec<String>,
    network: String,
    product: String,
}

#[derive(Serialize)]
struct WrittenProof {
    nonce: String,
    proof: String,
}

/// A case with what else the verdict says.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    case: &'a Case,
    until: Option<Timestamp>,
    seen_after: Timestamp,
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

fn pair(name: &str, value: &impl Serialize) -> String {
    format!("{}: {}", json(&name), json(value))
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join(",\n")
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// Every combination of product, device, status list, moment and memory. The code is the worst of what each brings in.
fn product_of_all() -> Vec<Case> {
    let mut cases = Vec::new();
    for text in ["bound", "other_product"] {
        for proof in [Some("own"), None] {
            for (moment, now) in NOWS {
                let lists = LISTS.map(|(name, age, status)| Some((name, age, status)));
                for list in lists.into_iter().chain([None]) {
                    for seen in [now - DAY, now + 3 * HOUR] {
                        let findings = [
                            (text == "other_product").then_some(Code::ProductMismatch),
                            proof.is_none().then_some(Code::DeviceMismatch),
                            list.and_then(|(_, _, status)| code_of(status)),
                            (seen > now).then_some(Code::ClockRollback),
                            code_of_moment(moment),
                            code_of_age(now, list.map_or(T, |(_, age, _)| (now - age).max(T))),
                        ];
                        let code = findings.into_iter().flatten().max();
                        cases.push(Case {
                            text,
                            list: list.map(|(name, ..)| list_name(name, moment)),
                            proof,
                            now,
                            seen,
                            code: code.unwrap_or(Code::Valid),
                        });
                    }
                }
            }
        }
    }
    cases
}

fn code_of(status: Status) -> Option<Code> {
    match status {
        Status::Valid => None,
        Status::Suspended => Some(Code::Suspended),
        Status::Revoked => Some(Code::Revoked),
    }
}

fn code_of_moment(moment: &str) -> Option<Code> {
    match moment {
        "early" => Some(Code::NotYet),
        "late" => Some(Code::Grace),
        "over" => Some(Code::Expired),
        _ => None,
    }
}

fn code_of_age(now: u64, told: u64) -> Option<Code> {
    match now - told {
        age if age >= MAX_AGE + GRACE => Some(Code::StatusStale),
        age if age >= MAX_AGE => Some(Code::Grace),
        _ => None,
    }
}

/// Every way in which a text is not to be believed, whatever else is right or wrong.
fn of_texts() -> Vec<Case> {
    let wrong = [
        ("empty", Code::Malformed),
        ("prose", Code::Malformed),
        ("cut", Code::Malformed),
        ("one_line", Code::Malformed),
        ("voucher_marks", Code::Malformed),
        ("other_type", Code::Malformed),
        ("no_license_signed", Code::Malformed),
        ("no_license_changed", Code::BadSignature),
        ("payload_changed", Code::BadSignature),
        ("signature_changed", Code::BadSignature),
        ("signed_by_other", Code::BadSignature),
        ("other_network", Code::UnknownKey),
        ("unpinned_root", Code::UnknownKey),
        ("self_certified", Code::UnknownKey),
        ("certificate_of_other", Code::UnknownKey),
        ("certificate_changed", Code::UnknownKey),
        ("no_certificate_signed", Code::UnknownKey),
        ("certificate_expired", Code::UnknownKey),
        ("certificate_later", Code::UnknownKey),
        ("certificate_of_other_network", Code::UnknownKey),
    ];
    let around =
        |(text, code)| [Case::best(), Case::worst()].map(|case| Case { text, code, ..case });
    let mut cases: Vec<Case> = wrong.into_iter().flat_map(around).collect();
    cases.push(Case::worst());
    // For any computer; from a mail; and still good although its issuer's certificate is over by now.
    let floating = Case {
        text: "floating",
        proof: None,
        ..Case::best()
    };
    let mailed = Case {
        text: "mailed",
        ..Case::best()
    };
    let retired = Case {
        text: "issuer_retired",
        ..Case::best()
    };
    cases.extend([floating, mailed, retired]);
    cases
}

/// Lists and proofs that do not count, and such that just do.
fn of_lists_and_proofs() -> Vec<Case> {
    let lists = [
        ("of_other_app_server", Code::StatusStale),
        ("unpinned", Code::StatusStale),
        ("changed", Code::StatusStale),
        ("too_short", Code::StatusStale),
        ("reserved", Code::StatusStale),
        ("no_list_signed", Code::StatusStale),
        ("by_next_issuer", Code::Revoked),
        ("ahead", Code::ClockRollback),
        ("a_little_ahead", Code::Valid),
    ];
    let proofs = [
        ("second", Code::Valid),
        ("stranger", Code::DeviceMismatch),
        ("other_nonce", Code::DeviceMismatch),
        ("other_license", Code::DeviceMismatch),
        ("other_network", Code::DeviceMismatch),
        ("changed", Code::DeviceMismatch),
    ];
    let lists = lists.map(|(list, code)| Case {
        list: Some(list.to_owned()),
        code,
        ..Case::best()
    });
    let proofs = proofs.map(|(proof, code)| Case {
        proof: Some(proof),
        code,
        ..Case::best()
    });
    lists.into_iter().chain(proofs).collect()
}

/// The last millisecond on one side of each moment, and the first on the other.
fn of_edges() -> Vec<Case> {
    let start = STARTS - 600_000;
    let at = |list: Option<&str>, now, seen, code| Case {
        list: list.map(str::to_owned),
        now,
        seen,
        code,
        ..Case::best()
    };
    let life = T + 12 * DAY;
    let listed = life - HOUR;
    let (late, end) = (Some("near_the_end"), EXPIRES + GRACE);
    let (stale, gone) = (listed + MAX_AGE, listed + MAX_AGE + GRACE);
    vec![
        at(None, T - 2 * HOUR - 1, 0, Code::ClockRollback),
        at(None, T - 2 * HOUR, 0, Code::NotYet),
        at(None, start - 1, 0, Code::NotYet),
        at(None, start, 0, Code::Valid),
        at(None, T + MAX_AGE - 1, 0, Code::Valid),
        at(None, T + MAX_AGE, 0, Code::Grace),
        at(None, T + MAX_AGE + GRACE - 1, 0, Code::Grace),
        at(None, T + MAX_AGE + GRACE, 0, Code::StatusStale),
        // The license is the later word of the two.
        at(Some("old.early"), T + 2 * DAY, 0, Code::Valid),
        at(Some("fresh.life"), stale - 1, 0, Code::Valid),
        at(Some("fresh.life"), stale, 0, Code::Grace),
        at(Some("fresh.life"), gone - 1, 0, Code::Grace),
        at(Some("fresh.life"), gone, 0, Code::StatusStale),
        at(Some("fresh.life"), listed - 2 * HOUR, 0, Code::Valid),
        at(
            Some("fresh.life"),
            listed - 2 * HOUR - 1,
            0,
            Code::ClockRollback,
        ),
        at(Some("fresh.life"), life, life + 2 * HOUR, Code::Valid),
        at(
            Some("fresh.life"),
            life,
            life + 2 * HOUR + 1,
            Code::ClockRollback,
        ),
        at(late, EXPIRES - 1, EXPIRES, Code::Valid),
        at(late, EXPIRES, EXPIRES, Code::Grace),
        at(late, end - 1, EXPIRES, Code::Grace),
        at(late, end, EXPIRES, Code::Expired),
        at(late, end + 36_500 * DAY, EXPIRES, Code::Expired),
    ]
}
