//! One value of each kind that app servers and coordinators sign, store or send, with fixed keys.

use tally_protocol::account::{Holder, Lot};
use tally_protocol::agreement::{Agreement, AgreementFault};
use tally_protocol::coordinator::{Fact, Reservation, SettlementRecord};
use tally_protocol::countersignature::{Countersignature, Countersigned, hash_of};
use tally_protocol::entry::{Event, Part};
use tally_protocol::id::{Hash, NodeId, OrderId, RedemptionId};
use tally_protocol::message::Refusal;
use tally_protocol::message::redeem::{RedeemFault, RedeemReply, RedeemRequest, Reserved};
use tally_protocol::message::registry::{Proposal, RegistryReply, RegistryRequest};
use tally_protocol::points::Points;
use tally_protocol::rate_card::Price;
use tally_protocol::redemption::{Redeem, Redemption, Reversal};
use tally_protocol::registration::{Enrolment, PointStatement, Registration, Revocation};
use tally_protocol::settlement::{
    Claim, Counted, SettleFault, SettleReply, SettleRequest, Settlement,
};

use super::{at, certificate, holder, node, sign};

fn app_server() -> NodeId {
    NodeId::from_bytes([7; 32])
}

pub(crate) fn agreement() -> Agreement {
    Agreement {
        app_server: app_server(),
        coordinator: node(),
        number: 3,
        currency: "EUR".parse().unwrap(),
        value: Price {
            minor: 2,
            micro_points: 1_000_000,
        },
        period_seconds: 30 * 86_400,
        cap: 100_000,
        credit: 50_000,
        supply_fee: 10,
        supply_devices_max: 1_000,
        not_before: at(0),
        not_after: at(31_536_000),
    }
}

pub(crate) fn countersignature() -> Countersignature {
    let of = hash_of(&sign(agreement()));
    Countersignature { of }
}

fn agreed() -> Countersigned<Agreement> {
    Countersigned {
        statement: sign(agreement()),
        agreed: sign(countersignature()),
    }
}

pub(crate) fn enrolment() -> Enrolment {
    Enrolment {
        app_server: app_server(),
        product: "photo-editor".parse().unwrap(),
        owner: holder().owner,
        at: at(5),
    }
}

pub(crate) fn registration() -> Registration {
    Registration {
        product: enrolment().product,
        holder: holder(),
        certificate: Some(sign(certificate())),
        enrolment: sign(enrolment()),
        issued: at(6),
        expires: at(86_400),
        serial: 2,
    }
}

pub(crate) fn revocation() -> Revocation {
    Revocation {
        device: holder().device,
        serial: 2,
        at: at(9),
        reason: "sold".to_owned(),
    }
}

pub(crate) fn point_statement() -> PointStatement {
    PointStatement {
        app_server: app_server(),
        holder: holder(),
        earned: Points::from_micro(3_000_003),
        escrowed: Points::from_micro(2_000_000),
        spendable: Points::from_micro(600_003),
        redeemed: Points::from_micro(400_000),
        size: 300,
        root: Hash::from_bytes([6; 32]),
        at: at(9),
    }
}

pub(crate) fn redeem() -> Redeem {
    Redeem {
        owner: holder().owner,
        coordinator: node(),
        app_server: app_server(),
        points: Points::from_micro(400_000),
        order: OrderId::from_bytes([4; 16]),
        nonce: [5; 16],
        expires: at(600),
    }
}

fn redemption_id() -> RedemptionId {
    RedemptionId::of(&sign(redeem()))
}

pub(crate) fn redemption() -> Redemption {
    Redemption {
        redeem: sign(redeem()),
        certificate: Some(sign(certificate())),
        agreement: countersignature().of,
        value: "0.80 EUR".parse().unwrap(),
        at: at(9),
    }
}

pub(crate) fn reversal() -> Reversal {
    Reversal {
        redemption: redemption_id(),
        reason: "order void".to_owned(),
        at: at(10),
    }
}

pub(crate) fn settlement() -> Settlement {
    let (redeemed, reversed) = claims();
    Settlement {
        app_server: app_server(),
        coordinator: node(),
        agreement: countersignature().of,
        number: 2,
        until: at(90),
        redeemed: Counted::of(&redeemed).unwrap(),
        reversed: Counted::of(&reversed).unwrap(),
        supply_devices: 3,
        supply_fee: 30,
        disputed: vec![RedemptionId::from_bytes([8; 16])],
        currency: "EUR".parse().unwrap(),
        due: -90,
    }
}

/// What the settlement counts.
fn claims() -> (Vec<Claim>, Vec<Claim>) {
    let given_back = (RedemptionId::from_bytes([1; 16]), 200);
    (vec![(redemption_id(), 80)], vec![given_back])
}

fn settled() -> Countersigned<Settlement> {
    let statement = sign(settlement());
    let of = hash_of(&statement);
    Countersigned {
        statement,
        agreed: sign(Countersignature { of }),
    }
}

fn settlement_record() -> SettlementRecord {
    let (redeemed, reversed) = claims();
    let ids = |claims: Vec<Claim>| claims.iter().map(|(id, _)| *id).collect();
    SettlementRecord {
        settlement: settled(),
        redeemed: ids(redeemed),
        reversed: ids(reversed),
    }
}

pub(crate) fn events() -> Vec<(&'static str, Event)> {
    let redemption_id = redemption_id();
    let reserved = |certificate| Event::PointsReserved {
        redeem: sign(redeem()),
        certificate,
        at: at(9),
        until: at(600),
    };
    let mut events = vec![
        (
            "agreement_made",
            Event::AgreementMade {
                agreement: agreed(),
            },
        ),
        (
            "device_registered",
            Event::DeviceRegistered {
                registration: sign(registration()),
            },
        ),
        (
            "registration_revoked",
            Event::RegistrationRevoked {
                revocation: sign(revocation()),
            },
        ),
        ("points_reserved", reserved(Some(sign(certificate())))),
        ("points_reserved_by_owner", reserved(None)),
        (
            "reservation_ended",
            Event::ReservationEnded {
                redemption: redemption_id,
            },
        ),
        (
            "points_redeemed",
            Event::PointsRedeemed {
                redemption: sign(redemption()),
            },
        ),
        (
            "redemption_reversed",
            Event::RedemptionReversed {
                reversal: sign(reversal()),
            },
        ),
    ];
    events.extend(events_of_orders());
    events
}

fn events_of_orders() -> Vec<(&'static str, Event)> {
    let record = settlement_record();
    let (order, user) = (redeem().order, redeem().owner);
    let money = |text: &str| text.parse().unwrap();
    vec![
        (
            "settlement_made",
            Event::SettlementMade {
                settlement: record.settlement,
                redeemed: record.redeemed,
                reversed: record.reversed,
            },
        ),
        (
            "settlement_paid",
            Event::SettlementPaid {
                with: app_server(),
                number: 2,
                reference: "wire 9".to_owned(),
            },
        ),
        (
            "order_charged",
            Event::OrderCharged {
                order,
                user,
                fee: money("12.00 EUR"),
                due: money("11.20 EUR"),
                parts: vec![Part {
                    coordinator: node(),
                    redemption: redemption_id(),
                    money: money("0.80 EUR"),
                }],
            },
        ),
        (
            "order_paid",
            Event::OrderPaid {
                order,
                user,
                money: money("11.20 EUR"),
                reference: "card 7".to_owned(),
            },
        ),
        (
            "order_refunded",
            Event::OrderRefunded {
                order,
                user,
                due: money("11.20 EUR"),
                paid: money("11.20 EUR"),
            },
        ),
    ]
}

pub(crate) fn facts() -> Vec<(&'static str, Fact)> {
    let Holder { owner, device } = holder();
    let lot = Lot {
        holder: Holder { owner, device },
        since: at(86_400),
        card: 2,
    };
    let reservation = Reservation {
        redeem: sign(redeem()),
        certificate: Some(sign(certificate())),
        agreement: countersignature().of,
        lots: vec![(lot, Points::from_micro(400_000))],
        value: redemption().value,
        at: at(9),
        until: at(600),
    };
    vec![
        ("proposed", Fact::Proposed(sign(agreement()))),
        ("declined", Fact::Declined(app_server())),
        ("agreed", Fact::Agreed(agreed())),
        ("registered", Fact::Registered(sign(registration()))),
        ("revoked", Fact::Revoked(sign(revocation()))),
        ("reserved", Fact::Reserved(Box::new(reservation))),
        ("reservation_ended", Fact::ReservationEnded(redemption_id())),
        ("redeemed", Fact::Redeemed(sign(redemption()))),
        ("reversed", Fact::Reversed(sign(reversal()))),
        (
            "settlement_made",
            Fact::SettlementMade(Box::new(settlement_record())),
        ),
    ]
}

pub(crate) fn registry_requests() -> Vec<(&'static str, RegistryRequest)> {
    let (redeemed, reversed) = claims();
    let settle = SettleRequest {
        settlement: sign(settlement()),
        redeemed,
        reversed,
    };
    vec![
        ("agree", RegistryRequest::Agree(sign(agreement()))),
        (
            "register",
            RegistryRequest::Register(vec![sign(registration())]),
        ),
        ("revoke", RegistryRequest::Revoke(vec![sign(revocation())])),
        ("points", RegistryRequest::Points(vec![holder().device])),
        ("told", RegistryRequest::Told(vec![sign(point_statement())])),
        ("settle", RegistryRequest::Settle(Box::new(settle))),
    ]
}

pub(crate) fn registry_replies() -> Vec<(&'static str, RegistryReply)> {
    let money = |text: &str| text.parse().unwrap();
    let faults = [
        (
            "faulty_bounds",
            AgreementFault::Bounds {
                name: "period_seconds".to_owned(),
                value: "0".to_owned(),
                bounds: "1 to 100000000".to_owned(),
            },
        ),
        (
            "faulty_currency",
            AgreementFault::Currency {
                found: "USD".parse().unwrap(),
                expected: "EUR".parse().unwrap(),
            },
        ),
        (
            "faulty_unfunded",
            AgreementFault::Unfunded {
                value: money("30.00 EUR"),
                reserve: money("20.00 EUR"),
            },
        ),
    ];
    let faults = faults.map(|(name, fault)| (name, Proposal::Faulty(fault)));
    let proposals = [
        ("waiting", Proposal::Waiting),
        ("made", Proposal::Made(agreed())),
        ("declined", Proposal::Declined),
    ];
    let proposals = proposals.into_iter().chain(faults);
    let settlement = |name, reply| (name, RegistryReply::Settlement(reply));
    let mut replies: Vec<(&'static str, RegistryReply)> = proposals
        .map(|(name, proposal)| (name, RegistryReply::Agreement(proposal)))
        .collect();
    replies.extend([
        ("kept", RegistryReply::Kept(64)),
        (
            "points",
            RegistryReply::Points(vec![sign(point_statement())]),
        ),
        ("heard", RegistryReply::Heard),
        settlement("agreed", SettleReply::Agreed(settled())),
        settlement("disputed", SettleReply::Disputed(vec![redemption_id()])),
        settlement("not_agreement", SettleReply::Not(SettleFault::Agreement)),
        settlement(
            "not_number",
            SettleReply::Not(SettleFault::Number { last: 7 }),
        ),
        settlement(
            "not_supply",
            SettleReply::Not(SettleFault::Supply { most: 2 }),
        ),
        settlement("later", SettleReply::Later),
        ("refused", RegistryReply::Refused(Refusal::NoAgreement)),
    ]);
    replies
}

pub(crate) fn redeem_requests() -> Vec<(&'static str, RedeemRequest)> {
    let reserve = |certificate| RedeemRequest::Reserve {
        redeem: sign(redeem()),
        certificate,
    };
    vec![
        ("reserve", reserve(Some(sign(certificate())))),
        ("reserve_by_owner", reserve(None)),
        ("post", RedeemRequest::Post(redemption_id())),
        ("void", RedeemRequest::Void(redemption_id())),
        ("reverse", RedeemRequest::Reverse(sign(reversal()))),
    ]
}

pub(crate) fn redeem_replies() -> Vec<(&'static str, RedeemReply)> {
    let (left, money) = (Points::from_micro(7), redemption().value);
    let faults = [
        ("not_other_audience", RedeemFault::OtherAudience),
        ("not_expired", RedeemFault::Expired),
        ("not_allowed", RedeemFault::NotAllowed),
        ("not_device_limit", RedeemFault::DeviceLimit { left }),
        ("not_no_agreement", RedeemFault::NoAgreement),
        (
            "not_too_few_points",
            RedeemFault::TooFewPoints { available: left },
        ),
        ("not_worthless", RedeemFault::Worthless),
        ("not_over_cap", RedeemFault::OverCap { left: money }),
        ("not_over_credit", RedeemFault::OverCredit { left: money }),
        ("not_unknown", RedeemFault::Unknown),
        ("not_over", RedeemFault::Over),
        ("not_posted", RedeemFault::Posted),
        ("not_unfunded", RedeemFault::Unfunded),
    ];
    let reserved = Reserved {
        redemption: redemption_id(),
        value: money,
        until: at(600),
    };
    let mut replies = vec![
        ("reserved", RedeemReply::Reserved(reserved)),
        ("posted", RedeemReply::Posted(sign(redemption()))),
        ("voided", RedeemReply::Voided),
        ("reversed", RedeemReply::Reversed),
        ("refused", RedeemReply::Refused(Refusal::Busy)),
    ];
    replies.extend(faults.map(|(name, fault)| (name, RedeemReply::Not(fault))));
    replies
}
