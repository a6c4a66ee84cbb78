//! Issuing: what an order becomes, again and again the same, and what no issuer signs.

use ed25519_dalek::SigningKey;
use tally_protocol::account::Money;
use tally_protocol::id::{LicenseId, NodeId, OrderId, ReceiptId, RedemptionId, VoucherId};
use tally_protocol::issuer::{IssueError, Issuer, IssuerCertificate, Trust, TrustError};
use tally_protocol::license::{Basis, License, LicenseOrder, LicenseTerms, Renewal, StatusList};
use tally_protocol::points::Points;
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::time::Timestamp;
use tally_protocol::voucher::{self, Discount, Voucher, VoucherError, VoucherOrder, VoucherTerms};

const FROM: u64 = 1_000_000;
const TO: u64 = 2_000_000;
const APP_SERVER: NodeId = NodeId::from_bytes([0xa5; 32]);

/// Changes something of an order or of its terms.
type Change = fn(&mut LicenseOrder, &mut LicenseTerms);

#[test]
fn an_order_gives_the_same_license_whenever_it_is_issued() {
    let first = License::issue(order(), terms(), &issuer()).unwrap();
    let again = License::issue(order(), terms(), &issuer()).unwrap();
    assert_eq!(first.signed().as_bytes(), again.signed().as_bytes());
    // What a crash may have left in another order is the same order.
    let mut turned = order();
    turned.devices.reverse();
    turned.devices.push(turned.devices[0]);
    turned.basis = Basis::of(vec![redemption(1), redemption(2), redemption(1)], vec![]);
    let mut order_of_old = order();
    order_of_old.basis = Basis::of(vec![redemption(2), redemption(1)], vec![]);
    let turned = License::issue(turned, terms(), &issuer()).unwrap();
    let straight = License::issue(order_of_old, terms(), &issuer()).unwrap();
    assert_eq!(turned, straight);
    assert_eq!(first.id, LicenseId::of(APP_SERVER, order().order));
    assert_eq!(first.expires.as_millis(), FROM + 60_000);
    assert!(first.entitles("export") && !first.entitles("filters"));
}

#[test]
fn ids_tell_orders_servers_and_kinds_apart() {
    let (one, two) = (OrderId::from_bytes([1; 16]), OrderId::from_bytes([2; 16]));
    let id = LicenseId::of(APP_SERVER, one);
    assert_ne!(id, LicenseId::of(APP_SERVER, two));
    assert_ne!(id, LicenseId::of(NodeId::from_bytes([1; 32]), one));
    assert_ne!(id.as_bytes(), VoucherId::of(APP_SERVER, one).as_bytes());
}

#[test]
fn the_basis_names_each_receipt_once_in_one_order() {
    let receipt = |byte| ReceiptId::from_bytes([byte; 32]);
    let of = |receipts: &[u8]| {
        let receipts = receipts.iter().map(|byte| receipt(*byte)).collect();
        Basis::of(vec![], receipts).receipts_root
    };
    assert_eq!(of(&[1, 2, 3]), of(&[3, 1, 2, 2]));
    assert_ne!(of(&[1, 2, 3]), of(&[1, 2]));
}

#[test]
fn nothing_is_issued_that_nobody_would_accept() {
    let changes: [(&str, Change); 13] = [
        ("entitlements", |_, terms| {
            terms.entitlements = vec![String::new()]
        }),
        ("entitlements", |_, terms| {
            terms.entitlements = vec!["a\nb".to_owned()]
        }),
        ("entitlements", |_, terms| {
            terms.entitlements = vec!["x".repeat(65)]
        }),
        ("entitlements", |_, terms| {
            terms.entitlements = (0..65).map(|number| number.to_string()).collect();
        }),
        ("devices", |order, _| {
            order.devices = (0..33).map(|byte| NodeId::from_bytes([byte; 32])).collect();
        }),
        ("expires", |_, terms| terms.life_seconds = 0),
        ("expires", |_, terms| terms.life_seconds = u64::MAX),
        ("expires", |order, _| {
            order.not_before = Timestamp::from_millis(FROM - 1)
        }),
        ("grace_seconds", |_, terms| {
            terms.grace_seconds = 367 * 86_400
        }),
        ("status.max_age_seconds", |_, terms| {
            terms.status_max_age_seconds = 0
        }),
        ("status.max_age_seconds", |_, terms| {
            terms.status_max_age_seconds = u64::MAX
        }),
        ("renewal", |_, terms| {
            let (points, period_seconds) = (Points::ZERO, 1);
            terms.renewal = Some(Renewal {
                points,
                period_seconds,
            });
        }),
        ("basis.redemptions", |order, _| {
            order.basis = Basis::of((0..33).map(redemption).collect(), vec![]);
        }),
    ];
    for (field, change) in changes {
        let (mut order, mut terms) = (order(), terms());
        change(&mut order, &mut terms);
        let error = License::issue(order, terms, &issuer()).unwrap_err();
        let IssueError::Content(error) = error else {
            panic!("{field}: {error}");
        };
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("accept the field {field}:")),
            "{text}"
        );
    }
}

#[test]
fn an_issuer_issues_only_while_its_certificate_holds() {
    let at = |millis| {
        let mut order = order();
        order.issued = Timestamp::from_millis(millis);
        order.not_before = order.issued;
        License::issue(order, terms(), &issuer())
    };
    assert!(at(FROM).is_ok() && at(TO - 1).is_ok());
    for millis in [FROM - 1, TO] {
        assert!(
            matches!(at(millis), Err(IssueError::NotCertified { .. })),
            "{millis}"
        );
    }
    let list = StatusList::issue(Timestamp::from_millis(TO), 1, vec![], &issuer());
    assert!(matches!(list, Err(IssueError::NotCertified { .. })));
    let other = Issuer::new(key(9), certificate(), "example".parse().unwrap());
    assert!(matches!(other, Err(IssueError::OtherKey { .. })));
    let mut nameless = certificate().value().clone();
    nameless.vendor.clear();
    let nameless = Verified::sign(nameless, &"example".parse().unwrap(), &key(1));
    let nameless = Issuer::new(key(2), nameless, "example".parse().unwrap());
    assert!(matches!(nameless, Err(IssueError::Content(_))));
}

#[test]
fn a_voucher_is_issued_once_and_the_same_and_checked_by_its_text() {
    let first = voucher();
    assert_eq!(first.signed().as_bytes(), voucher().signed().as_bytes());
    assert_eq!(first.id, VoucherId::of(APP_SERVER, order().order));
    let text = first.signed().to_text();
    let (last, over) = (FROM + 60_000 - 1, FROM + 60_000);
    let check = |text: &str, root: u8, now| {
        let trust = Trust {
            roots: vec![NodeId::from_bytes(key(root).verifying_key().to_bytes())],
            network: "example".parse().unwrap(),
        };
        voucher::verify(text, &trust, Timestamp::from_millis(now))
    };
    assert_eq!(check(&text, 1, last).unwrap().statement(), &first);
    let expired = check(&text, 1, over).unwrap_err();
    assert!(matches!(expired, VoucherError::Expired { .. }));
    let unpinned = check(&text, 3, last).unwrap_err();
    assert!(matches!(
        unpinned,
        VoucherError::Trust(TrustError::Root { .. })
    ));
    let license = License::issue(order(), terms(), &issuer()).unwrap();
    let relabelled = Signed::<Voucher>::from_bytes(license.signed().as_bytes().to_vec()).to_text();
    for wrong in ["", &license.signed().to_text(), &relabelled, &text[..200]] {
        assert!(check(wrong, 1, last).is_err(), "{wrong}");
    }
}

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes(&[byte; 32])
}

const fn redemption(byte: u8) -> RedemptionId {
    RedemptionId::from_bytes([byte; 16])
}

fn certificate() -> Verified<IssuerCertificate> {
    let certificate = IssuerCertificate {
        issuer: NodeId::from_bytes(key(2).verifying_key().to_bytes()),
        app_server: APP_SERVER,
        vendor: "Example Ltd".to_owned(),
        not_before: Timestamp::from_millis(FROM),
        not_after: Timestamp::from_millis(TO),
        serial: 1,
    };
    Verified::sign(certificate, &"example".parse().unwrap(), &key(1))
}

fn issuer() -> Issuer {
    Issuer::new(key(2), certificate(), "example".parse().unwrap()).unwrap()
}

fn order() -> LicenseOrder {
    LicenseOrder {
        order: OrderId::from_bytes([1; 16]),
        holder: NodeId::from_bytes([4; 32]),
        devices: vec![NodeId::from_bytes([5; 32]), NodeId::from_bytes([6; 32])],
        issued: Timestamp::from_millis(FROM),
        not_before: Timestamp::from_millis(FROM),
        status_index: 0,
        basis: Basis::of(vec![], vec![]),
    }
}

fn terms() -> LicenseTerms {
    LicenseTerms {
        product: "photo-editor".parse().unwrap(),
        entitlements: vec!["export".to_owned()],
        life_seconds: 60,
        grace_seconds: 60,
        status_max_age_seconds: 60,
        renewal: None,
    }
}

fn voucher() -> Verified<Voucher> {
    let LicenseOrder {
        order,
        holder,
        issued,
        basis,
        ..
    } = order();
    let value: Money = "7.50 EUR".parse().unwrap();
    let order = VoucherOrder {
        order,
        holder,
        value,
        issued,
        basis,
    };
    let terms = VoucherTerms {
        product: None,
        discount: Discount::Amount,
        fee_min: 0,
        life_seconds: 60,
    };
    Voucher::issue(order, terms, &issuer()).unwrap()
}
