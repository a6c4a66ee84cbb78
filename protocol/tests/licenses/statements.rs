//! What there is to be checked: texts, status lists and device proofs, right ones and wrong ones of every kind.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use tally_protocol::id::{LicenseId, NetworkId, NodeId, OrderId};
use tally_protocol::issuer::{Issuer, IssuerCertificate};
use tally_protocol::license::{
    Basis, DeviceProof, License, LicenseOrder, LicenseTerms, Status, StatusList,
};
use tally_protocol::signed::{Signed, Statement, Verified};
use tally_protocol::time::Timestamp;

use super::cases::{DAY, EXPIRES, GRACE, HOUR, LISTS, MAX_AGE, NOWS, STARTS, T};

/// The place of the license in the status lists.
const INDEX: u32 = 5;
const NONCE: [u8; 32] = [0x4e; 32];
const APP_SERVER: u8 = 0xa5;

pub(crate) fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes(&[byte; 32])
}

pub(crate) fn root() -> SigningKey {
    key(0x40)
}

pub(crate) fn node(key: &SigningKey) -> NodeId {
    NodeId::from_bytes(key.verifying_key().to_bytes())
}

pub(crate) fn network() -> NetworkId {
    "example".parse().unwrap()
}

pub(crate) fn at(millis: u64) -> Timestamp {
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

/// Says that it is a `T` and lacks most of it.
#[derive(Serialize, Deserialize)]
struct Half<T> {
    product: String,
    #[serde(skip)]
    of: PhantomData<T>,
}

impl<T: Statement> Statement for Half<T> {
    const TYPE: &'static str = T::TYPE;
    const BYTES_MAX: usize = T::BYTES_MAX;
}

/// Says the same as a license, but that it is something else.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Lookalike(License);

impl Statement for Lookalike {
    const TYPE: &'static str = "application/tally-lookalike+cbor";
    const BYTES_MAX: usize = License::BYTES_MAX;
}

fn half<T: Statement>(key: &SigningKey) -> Signed<T> {
    let half = Half::<T> {
        product: "photo-editor".to_owned(),
        of: PhantomData,
    };
    Signed::from_bytes(sign(half, key).as_bytes().to_vec())
}

fn changed<S: Statement>(signed: &Signed<S>, place: impl FnOnce(&[u8]) -> usize) -> Signed<S> {
    let mut bytes = signed.as_bytes().to_vec();
    let place = place(&bytes);
    bytes[place] ^= 1;
    Signed::from_bytes(bytes)
}

pub(crate) fn texts() -> BTreeMap<&'static str, String> {
    let issuer = Chain::good().issuer;
    let bound = sign(license("photo-editor", &devices()), &issuer);
    let text = bound.to_text();
    let other_product = sign(license("sound-editor", &devices()), &issuer);
    let floating = sign(license("photo-editor", &[]), &issuer);
    let no_license = half::<License>(&issuer);
    let product = |bytes: &[u8]| {
        let found = bytes.windows(12).position(|word| word == b"photo-editor");
        found.unwrap()
    };
    // The key of another, so that the signature is not its own.
    let foreign = key(0x66).verifying_key().to_bytes();
    let mut signed_by_other = bound.as_bytes().to_vec();
    signed_by_other[10..42].copy_from_slice(&foreign);
    let lookalike = sign(Lookalike(license("photo-editor", &devices())), &issuer);
    let other_type = Signed::<License>::from_bytes(lookalike.as_bytes().to_vec());
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

fn texts_of_chains() -> [(&'static str, String); 9] {
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
    let mut uncertified = license("photo-editor", &devices());
    uncertified.issuer = half(&root());
    [
        (
            "no_certificate_signed",
            sign(uncertified, &issuer).to_text(),
        ),
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

pub(crate) fn lists() -> BTreeMap<String, Signed<StatusList>> {
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
        named("no_list_signed", half(&good.issuer)),
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
pub(crate) fn list_name(list: &str, moment: &str) -> String {
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

pub(crate) fn proofs() -> BTreeMap<&'static str, ([u8; 32], Signed<DeviceProof>)> {
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
