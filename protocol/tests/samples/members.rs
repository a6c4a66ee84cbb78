//! What computers and their app server say to each other.

use tally_protocol::app_server::{
    DiscountOffer, Fault, OrderStatus, Phase, Product, VoidReason, Wish,
};
use tally_protocol::delivery::{DeliveredFile, Manifest};
use tally_protocol::id::{BlobId, Hash, OrderId};
use tally_protocol::invite::Invite;
use tally_protocol::license::{LicenseTerms, Renewal};
use tally_protocol::message::Refusal;
use tally_protocol::message::enroll::{
    Catalogue, EnrollReply, EnrollRequest, Issued, OfferLine, OrderShown, ProductLine,
};
use tally_protocol::message::redeem::RedeemFault;
use tally_protocol::points::Points;
use tally_protocol::purse::{PointsAt, Purse};
use tally_protocol::task::BlobRef;

use super::{at, certificate, holder, license, node, partners, sign, status_list, voucher};

pub(crate) fn invite() -> Invite {
    Invite {
        app_server: node(),
        addresses: vec!["/ip4/192.0.2.1/tcp/4810".to_owned()],
        product: "photo".parse().unwrap(),
        issued: at(0),
        expires: at(7 * 86_400_000),
    }
}

pub(crate) fn manifest() -> Manifest {
    let file = |name: &str, bytes, of: u8| DeliveredFile {
        name: name.to_owned(),
        bytes,
        sha256: Hash::from_bytes([of; 32]),
    };
    Manifest {
        app_server: node(),
        product: "photo".parse().unwrap(),
        files: vec![file("install.sh", 3_000, 1), file("tally", 40_000_000, 2)],
    }
}

fn product() -> Product {
    Product {
        id: "photo".parse().unwrap(),
        name: "Photo desk".to_owned(),
        price: "12.50 EUR".parse().unwrap(),
        terms: LicenseTerms {
            product: "photo".parse().unwrap(),
            entitlements: vec!["export".to_owned()],
            life_seconds: 31_536_000,
            grace_seconds: 1_209_600,
            status_max_age_seconds: 172_800,
            renewal: Some(Renewal {
                points: Points::from_micro(10_000_000),
                period_seconds: 2_592_000,
            }),
        },
        bundle: BlobRef {
            id: BlobId::of(b"the application"),
            bytes: 15,
        },
        launch: vec!["photo-desk".to_owned(), "--quiet".to_owned()],
        enrolment_seconds: 31_536_000,
    }
}

fn offer() -> DiscountOffer {
    DiscountOffer {
        id: "camera".parse().unwrap(),
        title: "A tenth off at Camera Corner".to_owned(),
        percent_max: 10,
        amount_max: "20.00 EUR".parse().unwrap(),
        product: None,
        fee_min: 100,
        life_seconds: 2_592_000,
    }
}

fn order() -> OrderId {
    OrderId::from_bytes([0x5a; 16])
}

fn status(phase: Phase, void: Option<VoidReason>) -> OrderStatus {
    OrderStatus {
        order: order(),
        phase,
        fee: "12.50 EUR".parse().unwrap(),
        discount: 500,
        due: 750,
        void,
        settled: true,
    }
}

pub(crate) fn enroll_requests() -> Vec<(&'static str, EnrollRequest)> {
    let key = |text: &str| text.parse().unwrap();
    let open = |wish, name| EnrollRequest::Open {
        wish,
        key: key(name),
    };
    let license = Wish::License {
        product: "photo".parse().unwrap(),
        devices: vec![holder().device],
    };
    let renewal = Wish::Renewal {
        license: super::license().id,
    };
    let voucher = Wish::Voucher {
        offer: "camera".parse().unwrap(),
        fee: "40.00 EUR".parse().unwrap(),
    };
    vec![
        ("catalogue", EnrollRequest::Catalogue),
        ("product", EnrollRequest::Product("photo".parse().unwrap())),
        ("offer", EnrollRequest::Offer("camera".parse().unwrap())),
        (
            "enrol",
            EnrollRequest::Enrol {
                enrolment: sign(partners::enrolment()),
                certificate: Some(sign(certificate())),
            },
        ),
        ("purse", EnrollRequest::Purse),
        ("open_license", open(license, "goal 1")),
        ("open_renewal", open(renewal, "goal 2")),
        ("open_voucher", open(voucher, "shop 7")),
        (
            "redeem",
            EnrollRequest::Redeem {
                order: order(),
                points: vec![
                    (sign(partners::redeem()), Some(sign(certificate()))),
                    (sign(partners::redeem()), None),
                ],
            },
        ),
        ("order", EnrollRequest::Order(order())),
        ("status_list", EnrollRequest::StatusList),
    ]
}

#[expect(clippy::too_many_lines, reason = "a list of samples")]
pub(crate) fn enroll_replies() -> Vec<(&'static str, EnrollReply)> {
    let (product, offer) = (product(), offer());
    let catalogue = Catalogue {
        products: vec![ProductLine {
            id: product.id.clone(),
            name: product.name.clone(),
            price: product.price,
        }],
        offers: vec![OfferLine {
            id: offer.id.clone(),
            title: offer.title.clone(),
            percent_max: offer.percent_max,
            amount_max: offer.amount_max,
        }],
    };
    let agreement = partners::agreement();
    let points = PointsAt {
        coordinator: node(),
        value: Some((agreement.value, agreement.currency)),
        earned: Points::from_micro(9_000_000),
        escrowed: Points::from_micro(1_000_000),
        spendable: Points::from_micro(5_000_000),
        redeemed: Points::from_micro(3_000_000),
        at: at(9),
    };
    let without = PointsAt {
        value: None,
        ..points.clone()
    };
    let purse = Purse {
        points: vec![points, without],
    };
    let shown = |phase, void, goods| {
        EnrollReply::Order(Box::new(OrderShown {
            owner: holder().owner,
            status: status(phase, void),
            goods,
        }))
    };
    let too_few = VoidReason::Points {
        coordinator: node(),
        fault: RedeemFault::TooFewPoints {
            available: Points::from_micro(7),
        },
    };
    vec![
        ("catalogue", EnrollReply::Catalogue(catalogue)),
        ("product", EnrollReply::Product(Box::new(product))),
        ("offer", EnrollReply::Offer(Box::new(offer))),
        (
            "registered",
            EnrollReply::Registered(sign(partners::registration())),
        ),
        ("purse", EnrollReply::Purse(purse)),
        ("order_reserving", shown(Phase::Reserving, None, None)),
        ("order_void", shown(Phase::Void, Some(too_few), None)),
        (
            "order_license",
            shown(
                Phase::Fulfilled,
                None,
                Some(Issued::License(sign(license()))),
            ),
        ),
        (
            "order_voucher",
            shown(
                Phase::Fulfilled,
                None,
                Some(Issued::Voucher(sign(voucher()))),
            ),
        ),
        ("status_list", EnrollReply::StatusList(sign(status_list()))),
        (
            "not",
            EnrollReply::Not(Fault::WrongPhase { phase: Phase::Void }),
        ),
        ("refused", EnrollReply::Refused(Refusal::Busy)),
    ]
}
