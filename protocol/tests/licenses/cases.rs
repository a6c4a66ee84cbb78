//! The truth table: what there is to be checked, what an application may know, and what it should find.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use tally_protocol::armour::Armoured;
use tally_protocol::id::{LicenseId, NetworkId, NodeId, OrderId};
use tally_protocol::issuer::{Issuer, IssuerCertificate, Trust};
use tally_protocol::license::{
    Basis, Challenge, Code, DeviceProof, Known, License, LicenseOrder, LicenseTerms, Pins, Status,
    StatusList, Verdict, verify,
};
use tally_protocol::signed::{Signed, Statement, Verified};
use tally_protocol::time::Timestamp;

pub(crate) const HOUR: u64 = 3_600_000;
pub(crate) const DAY: u64 = 24 * HOUR;
/// When all licenses here are issued, in ms.
pub(crate) const T: u64 = 1_800_000_000_000;
const STARTS: u64 = T + DAY;
const EXPIRES: u64 = STARTS + 30 * DAY;
const GRACE: u64 = 7 * DAY;
const MAX_AGE: u64 = 3 * DAY;
/// The place of the license in the status lists.
const INDEX: u32 = 5;
const NONCE: [u8; 32] = [0x4e; 32];
const APP_SERVER: u8 = 0xa5;

/// Moments of a license's life.
const NOWS: [(&str, u64); 4] = [
    ("early", T + DAY / 2),
    ("life", T + 12 * DAY),
    ("late", EXPIRES + 2 * DAY),
    ("over", EXPIRES + GRACE + DAY),
];
/// Status lists: a name, how old, and what they say.
const LISTS: [(&str, u64, Status); 6] = [
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

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes(&[byte; 32])
}

fn root() -> SigningKey {
    key(0x40)
}

fn node(key: &SigningKey) -> NodeId {
    NodeId::from_bytes(key.verifying_key().to_bytes())
}

fn network() -> NetworkId {
    "example".parse().unwrap()
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// What may be wrong with a chain; by default nothing is.
struct Chain {
    root: SigningKey,
    issuer: SigningKey,
    app_server: u8,
    holds: (u64, u64),
    network: &'static str,
}

impl Chain {
    fn good() -> Self {
        Self {
            root: root(),
            issuer: key(0x41),
            app_server: APP_SERVER,
            holds: (T - 30 * DAY, T + 365 * DAY),
            network: "example",
        }
    }

    fn certificate(&self) -> Verified<IssuerCertificate> {
        let certificate = IssuerCertificate {
            issuer: node(&self.issuer),
            app_server: NodeId::from_bytes([self.app_server; 32]),
            vendor: "Example Ltd".to_owned(),
            not_before: at(self.holds.0),
            not_after: at(self.holds.1),
            serial: 1,
        };
        Verified::sign(certificate, &self.network.parse().unwrap(), &self.root)
    }

    fn issuer(&self) -> Issuer {
        Issuer::new(self.issuer.clone(), self.certificate(), network()).unwrap()
    }

    /// Signs what a good issuer would have issued, with this certificate in it, although it may not hold.
    fn license(&self) -> Signed<License> {
        let mut license = license("photo-editor", &devices());
        license.issuer = self.certificate().signed().clone();
        sign(license, &self.issuer)
    }

    fn list(&self, issued: u64, bits: Vec<u8>) -> Signed<StatusList> {
        let list = StatusList::issue(at(issued), 1, bits, &self.issuer());
        list.unwrap().signed().clone()
    }
}

fn sign<S: Statement>(statement: S, key: &SigningKey) -> Signed<S> {
    let verified = Verified::sign(statement, &network(), key);
    Signed::from_bytes(verified.signed().as_bytes().to_vec())
}

fn devices() -> Vec<NodeId> {
    vec![node(&key(0x50)), node(&key(0x51))]
}

fn license(product: &str, devices: &[NodeId]) -> License {
    let order = LicenseOrder {
        order: OrderId::from_bytes([7; 16]),
        holder: NodeId::from_bytes([8; 32]),
        devices: devices.to_vec(),
        issued: at(T),
        not_before: at(STARTS),
        status_index: INDEX,
        basis: Basis::of(Vec::new(), Vec::new()),
    };
    let terms = LicenseTerms {
        product: product.parse().unwrap(),
        entitlements: vec!["export".to_owned()],
        life_seconds: (EXPIRES - STARTS) / 1_000,
        grace_seconds: GRACE / 1_000,
        status_max_age_seconds: MAX_AGE / 1_000,
        renewal: None,
    };
    let license = License::issue(order, terms, &Chain::good().issuer()).unwrap();
    license.value().clone()
}

/// Says that it is a license and is none.
#[derive(Serialize, Deserialize)]
struct NoLicense {
    product: String,
}

impl Statement for NoLicense {
    const TYPE: &'static str = License::TYPE;
    const BYTES_MAX: usize = License::BYTES_MAX;
}

impl Armoured for NoLicense {
    const LABEL: &'static str = License::LABEL;
}

fn changed<S: Statement>(signed: &Signed<S>, place: impl FnOnce(&[u8]) -> usize) -> Signed<S> {
    let mut bytes = signed.as_bytes().to_vec();
    let place = place(&bytes);
    bytes[place] ^= 1;
    Signed::from_bytes(bytes)
}

fn texts() -> BTreeMap<&'static str, String> {
    let issuer = Chain::good().issuer;
    let bound = sign(license("photo-editor", &devices()), &issuer);
    let text = bound.to_text();
    let other_product = sign(license("sound-editor", &devices()), &issuer);
    let floating = sign(license("photo-editor", &[]), &issuer);
    let no_license = sign(
        NoLicense {
            product: "photo-editor".to_owned(),
        },
        &issuer,
    );
    let product = |bytes: &[u8]| {
        let found = bytes.windows(12).position(|word| word == b"photo-editor");
        found.unwrap()
    };
    // The key of another, so that the signature is not its own.
    let foreign = key(0x66).verifying_key().to_bytes();
    let mut signed_by_other = bound.as_bytes().to_vec();
    signed_by_other[10..42].copy_from_slice(&foreign);
    let list = Chain::good().list(T, vec![0; 4]);
    let other_type = Signed::<License>::from_bytes(list.as_bytes().to_vec());
    let elsewhere = Verified::sign(
        license("photo-editor", &devices()),
        &"elsewhere".parse().unwrap(),
        &issuer,
    );
    let mut texts = BTreeMap::from([
        ("empty", String::new()),
        ("prose", "Dear customer, this is your license.".to_owned()),
        ("cut", text[..text.len() - 40].to_owned()),
        ("one_line", text.replacen('\n', " ", 3)),
        ("voucher_marks", text.replace("LICENSE", "VOUCHER")),
        (
            "mailed",
            format!("\r\n  {}\r\n", text.replace('\n', "\r\n")),
        ),
        ("other_product", other_product.to_text()),
        ("floating", floating.to_text()),
        ("other_type", other_type.to_text()),
        ("no_license_signed", no_license.to_text()),
        (
            "no_license_changed",
            changed(&no_license, product).to_text(),
        ),
        ("payload_changed", changed(&bound, product).to_text()),
        (
            "signature_changed",
            changed(&bound, |bytes| bytes.len() - 5).to_text(),
        ),
        (
            "signed_by_other",
            Signed::<License>::from_bytes(signed_by_other).to_text(),
        ),
        ("other_network", elsewhere.signed().to_text()),
        ("bound", text),
    ]);
    texts.extend(texts_of_chains());
    texts
}

fn texts_of_chains() -> [(&'static str, String); 8] {
    let good = Chain::good;
    let license_of = |chain: Chain| chain.license().to_text();
    let mut of_other = license("photo-editor", &devices());
    let other = Chain {
        issuer: key(0x42),
        ..good()
    };
    of_other.issuer = other.certificate().signed().clone();
    let mut forged = license("photo-editor", &devices());
    forged.issuer = changed(&forged.issuer, |bytes| bytes.len() - 80);
    let issuer = good().issuer;
    [
        (
            "unpinned_root",
            license_of(Chain {
                root: key(0x43),
                ..good()
            }),
        ),
        (
            "self_certified",
            license_of(Chain {
                root: issuer.clone(),
                ..good()
            }),
        ),
        ("certificate_of_other", sign(of_other, &issuer).to_text()),
        ("certificate_changed", sign(forged, &issuer).to_text()),
        (
            "certificate_expired",
            license_of(Chain {
                holds: (T - DAY, T),
                ..good()
            }),
        ),
        (
            "certificate_later",
            license_of(Chain {
                holds: (T + 1, T + DAY),
                ..good()
            }),
        ),
        (
            "issuer_retired",
            license_of(Chain {
                holds: (T, T + 1),
                ..good()
            }),
        ),
        (
            "certificate_of_other_network",
            license_of(Chain {
                network: "elsewhere",
                ..good()
            }),
        ),
    ]
}

fn lists() -> BTreeMap<String, Signed<StatusList>> {
    let good = Chain::good();
    let named = |name: &str, list| (name.to_owned(), list);
    let mut lists = BTreeMap::new();
    for (moment, now) in NOWS {
        for (name, age, status) in LISTS {
            let list = good.list(now - age, bits(status));
            lists.insert(list_name(name, moment), list);
        }
    }
    let (now, revoked) = (T + 12 * DAY, bits(Status::Revoked));
    let by = |chain: Chain| chain.list(now - HOUR, revoked.clone());
    let other_app_server = Chain {
        app_server: APP_SERVER + 1,
        ..Chain::good()
    };
    let unpinned = Chain {
        root: key(0x43),
        ..Chain::good()
    };
    let next = Chain {
        issuer: key(0x42),
        ..Chain::good()
    };
    let forged = changed(&by(Chain::good()), |bytes| bytes.len() - 80);
    let mut reserved = bits(Status::Valid);
    reserved[1] |= 0b11 << 2;
    lists.extend([
        named("of_other_app_server", by(other_app_server)),
        named("unpinned", by(unpinned)),
        named("changed", forged),
        named("too_short", good.list(now - HOUR, vec![0])),
        named("reserved", good.list(now - HOUR, reserved)),
        named("by_next_issuer", by(next)),
        named(
            "near_the_end",
            good.list(EXPIRES - HOUR, bits(Status::Valid)),
        ),
        named("ahead", good.list(now + 3 * HOUR, bits(Status::Valid))),
        named("a_little_ahead", good.list(now + HOUR, bits(Status::Valid))),
    ]);
    lists
}

/// Returns the name of a list as of a moment.
fn list_name(list: &str, moment: &str) -> String {
    format!("{list}.{moment}")
}

/// Returns the bits of a list that says so about the license, and about others that they are revoked.
fn bits(status: Status) -> Vec<u8> {
    let mut bits = Vec::new();
    for (index, status) in [
        (INDEX - 1, Status::Revoked),
        (INDEX, status),
        (INDEX + 1, Status::Revoked),
    ] {
        status.set(&mut bits, index).unwrap();
    }
    bits
}

fn proofs() -> BTreeMap<&'static str, ([u8; 32], Signed<DeviceProof>)> {
    let license = license("photo-editor", &devices()).id;
    let proof = |license: LicenseId, nonce: [u8; 32]| DeviceProof {
        license,
        nonce,
        at: at(T),
    };
    let by = |device: u8| sign(proof(license, NONCE), &key(device));
    let own = |proof: DeviceProof| sign(proof, &key(0x50));
    let elsewhere = "elsewhere".parse().unwrap();
    let elsewhere = Verified::sign(proof(license, NONCE), &elsewhere, &key(0x50));
    let other_license = proof(LicenseId::from_bytes([1; 16]), NONCE);
    BTreeMap::from([
        ("own", by(0x50)),
        ("second", by(0x51)),
        ("stranger", by(0x52)),
        ("other_nonce", own(proof(license, [1; 32]))),
        ("other_license", own(other_license)),
        ("other_network", elsewhere.signed().clone()),
        ("changed", changed(&by(0x50), |bytes| bytes.len() - 1)),
    ])
    .into_iter()
    .map(|(name, proof)| (name, (NONCE, proof)))
    .collect()
}
