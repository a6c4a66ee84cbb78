//! What a computer keeps of an app server, and what it makes of licenses.

use std::fs;
use std::time::Duration;

use data_encoding::HEXLOWER;
use tally_protocol::app_server::{IdempotencyKey, Product, Wish};
use tally_protocol::codec;
use tally_protocol::id::OrderId;
use tally_protocol::issuer::{Issuer, IssuerCertificate};
use tally_protocol::license::{
    Basis, Code, License, LicenseOrder, LicenseTerms, Renewal, Status, StatusList,
};
use tally_protocol::points::Points;
use tally_protocol::product::ProductId;
use tally_protocol::registration::{Enrolment, Registration};
use tally_protocol::task::BlobRef;
use tally_protocol::time::Timestamp;
use tempfile::TempDir;

use super::kept::{Joined, checked_registration};
use super::ordering::What;
use super::shelf::{Shelf, next};
use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const DAY_SECONDS: u64 = 86_400;

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

pub(super) fn photo() -> ProductId {
    "photo".parse().unwrap()
}

/// The computer of key 3, registered with app server 1 of vendor 9.
pub(super) struct Story {
    _dir: TempDir,
    pub(super) member: Member,
    pub(super) issuer: Issuer,
    pub(super) membership: Membership,
}

fn issuer(root: u8) -> Issuer {
    let now = clock::now();
    let certificate = IssuerCertificate {
        issuer: keys::node_id(&key(7)),
        app_server: keys::node_id(&key(1)),
        vendor: "Photo Works".to_owned(),
        not_before: now - DAY * 400,
        not_after: now + DAY * 400,
        serial: 1,
    };
    let certificate = Verified::sign(certificate, &network(), &key(root));
    Issuer::new(key(7), certificate, network()).unwrap()
}

fn network() -> NetworkId {
    "home".parse().unwrap()
}

fn terms() -> LicenseTerms {
    LicenseTerms {
        product: photo(),
        entitlements: vec!["all".to_owned()],
        life_seconds: 40 * DAY_SECONDS,
        grace_seconds: DAY_SECONDS,
        status_max_age_seconds: 200 * DAY_SECONDS,
        renewal: Some(Renewal {
            points: Points::from_micro(5_000),
            period_seconds: 30 * DAY_SECONDS,
        }),
    }
}

fn joined(at: Timestamp) -> Joined {
    let (app_server, device) = (keys::node_id(&key(1)), keys::node_id(&key(3)));
    let enrolment = Enrolment {
        app_server,
        product: photo(),
        owner: device,
        at,
    };
    let registration = Registration {
        product: photo(),
        holder: Holder::alone(device),
        certificate: None,
        enrolment: Verified::sign(enrolment, &network(), &key(3))
            .signed()
            .clone(),
        issued: at,
        expires: at + DAY * 90,
        serial: 1,
    };
    let registration = Verified::sign(registration, &network(), &key(1));
    Joined {
        app_server,
        addresses: vec!["/ip4/127.0.0.1/tcp/4811".to_owned()],
        vendor: "Photo Works".to_owned(),
        root: keys::node_id(&key(9)),
        registration: registration.signed().clone(),
        product: Product {
            id: photo(),
            name: "Photo desk".to_owned(),
            price: "0.20 EUR".parse().unwrap(),
            terms: terms(),
            bundle: BlobRef::of(b"bundle"),
            launch: vec!["photo".to_owned()],
            enrolment_seconds: 90 * DAY_SECONDS,
        },
    }
}

impl Story {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let member = Member::new(&folder, network(), key(3));
        let membership = Membership::new(joined(clock::now()));
        let app_server = membership.app_server;
        let kept = membership.clone();
        let memberships = member.memberships();
        memberships
            .change(app_server, |known| *known = Some(kept))
            .unwrap();
        Self {
            _dir: dir,
            member,
            issuer: issuer(9),
            membership,
        }
    }

    /// Issues a license for this computer that begins so many days from now.
    pub(super) fn license(&self, number: u8, days: i64) -> Signed<License> {
        let now = clock::now();
        let shift = DAY * u32::try_from(days.unsigned_abs()).unwrap();
        let not_before = if days < 0 { now - shift } else { now + shift };
        let order = LicenseOrder {
            order: OrderId::from_bytes([number; 16]),
            holder: self.member.me(),
            devices: vec![self.member.me()],
            issued: not_before.min(now),
            not_before,
            status_index: number.into(),
            basis: Basis::of(Vec::new(), Vec::new()),
        };
        let license = License::issue(order, terms(), &self.issuer).unwrap();
        license.signed().clone()
    }

    pub(super) fn shelf<'a>(&'a self, product: &'a ProductId) -> Shelf<'a> {
        Shelf::new(&self.member, &self.membership, product)
    }

    /// Has the status list say that a license is revoked.
    pub(super) fn revoke(&self, number: u8) {
        let list = self.list(1, Some(number));
        self.shelf(&photo()).keep_list(&list).unwrap();
    }

    fn list(&self, sequence: u64, revoked: Option<u8>) -> Signed<StatusList> {
        let mut bits = Vec::new();
        let status = revoked.map_or(Status::Valid, |_| Status::Revoked);
        status.set(&mut bits, revoked.unwrap_or(9).into()).unwrap();
        let issued = Timestamp::from_millis(clock::now().as_millis() + sequence);
        let list = StatusList::issue(issued, sequence, bits, &self.issuer).unwrap();
        list.signed().clone()
    }
}

#[test]
fn a_membership_is_written_as_it_always_was() {
    let mut membership = Membership::new(joined(Timestamp::from_millis(1_000)));
    let what = What::License(photo(), vec![keys::node_id(&key(3))]);
    let wish = Wish::License {
        product: photo(),
        devices: vec![keys::node_id(&key(3))],
    };
    let name = what.name();
    membership.begin(&name, &wish, |attempt| {
        what.key(keys::node_id(&key(3)), attempt)
    });
    let ended = membership.begin("renewal of nothing", &wish, |attempt| {
        what.key(keys::node_id(&key(3)), attempt)
    });
    membership.end("renewal of nothing", &ended.key);
    let bytes = codec::to_bytes(&membership);
    let golden = include_str!("golden.txt").trim();
    assert_eq!(HEXLOWER.encode(&bytes), golden);
    let read: Membership = codec::from_bytes(&bytes, bytes.len()).unwrap();
    assert_eq!(read, membership);
}

#[test]
fn an_order_has_one_key_until_it_ends() {
    let story = Story::new();
    let (memberships, app_server) = (story.member.memberships(), story.membership.app_server);
    let what = What::License(photo(), Vec::new());
    let wish = Wish::License {
        product: photo(),
        devices: Vec::new(),
    };
    let begin = || {
        let begun = memberships.update(app_server, |known| {
            known.begin(&what.name(), &wish, |attempt| {
                what.key(story.member.me(), attempt)
            })
        });
        begun.unwrap().key
    };
    let first = begin();
    assert_eq!(begin(), first);
    memberships
        .update(app_server, |known| known.end(&what.name(), &first))
        .unwrap();
    assert_ne!(begin(), first);
    let having = memberships.having(&photo()).unwrap();
    assert_eq!(having.orders.len(), 1);
    assert!(memberships.having(&"other".parse().unwrap()).is_err());
}

#[test]
fn changes_at_the_same_time_are_all_kept() {
    let story = Story::new();
    let (memberships, app_server) = (story.member.memberships(), story.membership.app_server);
    std::thread::scope(|threads| {
        for thread in 0..4 {
            threads.spawn(move || {
                for _ in 0..25 {
                    let name = format!("thread {thread}");
                    memberships
                        .update(app_server, |known| {
                            let wish = Wish::License {
                                product: photo(),
                                devices: Vec::new(),
                            };
                            let begun = known.begin(&name, &wish, |attempt| {
                                format!("{name} {attempt}").parse().unwrap()
                            });
                            known.end(&name, &begun.key);
                        })
                        .unwrap();
                }
            });
        }
    });
    let known = memberships.of(app_server).unwrap().unwrap();
    assert!(known.attempts.values().all(|count| *count == 25));
    assert_eq!(known.attempts.len(), 4);
}

#[test]
fn a_damaged_membership_is_named() {
    let story = Story::new();
    let app_server = story.membership.app_server;
    let path = story
        .member
        .folder()
        .memberships()
        .join(app_server.to_string());
    fs::write(&path, b"something else").unwrap();
    let error = story.member.memberships().all().unwrap_err();
    assert!(matches!(&error, MemberError::Kept { path: of, .. } if *of == path));
}

#[test]
fn a_registration_of_another_computer_or_app_server_is_refused() {
    let signed = joined(clock::now()).registration;
    let (app_server, device) = (keys::node_id(&key(1)), keys::node_id(&key(3)));
    let other = keys::node_id(&key(4));
    let checked = |of| checked_registration(signed.clone(), &network(), of);
    assert!(checked((app_server, device)).is_ok());
    assert!(checked((other, device)).is_err());
    assert!(checked((app_server, other)).is_err());
}

#[test]
fn a_renewal_waits_beside_the_license_that_it_follows() {
    let (story, product) = (Story::new(), photo());
    let shelf = story.shelf(&product);
    let (first, second) = (story.license(1, 0), story.license(2, 40));
    let path = shelf.add(&first).unwrap();
    assert_eq!(path, story.member.folder().license(&product));
    assert_eq!(shelf.add(&second).unwrap(), next(&path));
    assert_eq!(shelf.add(&second).unwrap(), next(&path), "twice is once");
    let codes: Vec<Code> = shelf
        .judge()
        .unwrap()
        .iter()
        .map(|judged| judged.verdict.code)
        .collect();
    assert_eq!(codes, [Code::Valid, Code::NotYet]);
    for path in [shelf.applied(), next(&shelf.applied())] {
        assert!(path.is_file(), "{}", path.display());
    }
    // What is over makes room.
    fs::write(&path, story.license(3, -100).to_text()).unwrap();
    let third = story.license(4, -1);
    assert_eq!(shelf.add(&third).unwrap(), path);
    assert_eq!(shelf.judge().unwrap()[0].license, third);
}

#[test]
fn only_what_the_pinned_vendor_issued_is_kept() {
    let (mut story, product) = (Story::new(), photo());
    story.issuer = issuer(8);
    let shelf = story.shelf(&product);
    let error = shelf.add(&story.license(1, 0)).unwrap_err();
    assert!(error.to_string().contains("unknown_key"), "{error}");
    assert!(shelf.keep_list(&story.list(1, None)).is_err());
    assert!(!shelf.applied().exists());
    let other: ProductId = "other".parse().unwrap();
    let story = Story::new();
    let error = story.shelf(&other).add(&story.license(1, 0)).unwrap_err();
    assert!(error.to_string().contains("product_mismatch"), "{error}");
}

#[test]
fn the_newest_status_list_counts() {
    let (story, product) = (Story::new(), photo());
    let shelf = story.shelf(&product);
    shelf.add(&story.license(1, 0)).unwrap();
    let (older, newer) = (story.list(1, None), story.list(1_000, Some(1)));
    assert!(shelf.keep_list(&newer).unwrap());
    assert!(!shelf.keep_list(&older).unwrap());
    assert_eq!(shelf.judge().unwrap()[0].verdict.code, Code::Revoked);
}

#[test]
fn a_challenge_is_answered_with_the_computers_key() {
    let story = Story::new();
    let license = LicenseId::from_bytes([1; 16]);
    let proof = story.member.prove(license, [2; 32]).verify(&network());
    let proof = proof.unwrap();
    assert_eq!((proof.license, proof.nonce), (license, [2; 32]));
    assert_eq!(proof.signer(), story.member.me());
}

#[test]
fn an_order_that_another_process_has_ended_is_not_ended_again() {
    let story = Story::new();
    let (memberships, app_server) = (story.member.memberships(), story.membership.app_server);
    let what = What::License(photo(), Vec::new());
    let wish = Wish::License {
        product: photo(),
        devices: Vec::new(),
    };
    let begin = || {
        let begun = memberships.update(app_server, |known| {
            known.begin(&what.name(), &wish, |attempt| {
                what.key(story.member.me(), attempt)
            })
        });
        begun.unwrap().key
    };
    let end = |key: &IdempotencyKey| {
        let ended = memberships.update(app_server, |known| known.end(&what.name(), key));
        ended.unwrap();
    };
    let first = begin();
    end(&first);
    let second = begin();
    // Whoever has heard late of the end of the first one.
    end(&first);
    assert_eq!(begin(), second);
}
