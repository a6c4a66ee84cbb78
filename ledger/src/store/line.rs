//! The key of a line of the books, in the order of the lines.
//!
//! A key is the number of the kind of account, what tells accounts of this kind apart, and the commodity. Keys sort as
//! [`Line`]s do, and all lines of an owner, of a holder or of a customer are neighbours.

use tally_protocol::account::{Account, Commodity, Currency, Holder, Lot};
use tally_protocol::books::Line;
use tally_protocol::id::{NodeId, RedemptionId, TaskId};
use tally_protocol::time::Timestamp;

const ISSUED: u8 = 0;
const ESCROW: u8 = 1;
const SPENDABLE: u8 = 2;
const REDEEMED: u8 = 3;
const EXPIRED: u8 = 4;
const OUTSIDE: u8 = 5;
const CUSTOMER: u8 = 6;
const HELD: u8 = 7;
const SUBSIDY: u8 = 8;
const REVENUE: u8 = 9;
const RESERVE: u8 = 10;
const CREDIT: u8 = 11;
const RESERVED: u8 = 12;
const PAYABLE: u8 = 13;
const RECEIVABLE: u8 = 14;
const SALES: u8 = 15;

/// Before nothing: points.
const POINTS: u8 = 0;
/// Before the three letters of a currency.
const MONEY: u8 = 1;

/// Returns the key of a line.
pub(super) fn key_of(line: &Line) -> Vec<u8> {
    let (account, commodity) = line;
    let mut key = Vec::with_capacity(96);
    let lot = |key: &mut Vec<u8>, kind, lot: &Lot| {
        key.extend_from_slice(&of_holder(kind, lot.holder));
        key.extend_from_slice(&lot.since.as_millis().to_be_bytes());
        key.extend_from_slice(&lot.card.to_be_bytes());
    };
    match account {
        Account::Issued => key.push(ISSUED),
        Account::Escrow(of) => lot(&mut key, ESCROW, of),
        Account::Spendable(of) => lot(&mut key, SPENDABLE, of),
        Account::Redeemed(holder) => key.extend_from_slice(&of_holder(REDEEMED, *holder)),
        Account::Expired(holder) => key.extend_from_slice(&of_holder(EXPIRED, *holder)),
        Account::Outside => key.push(OUTSIDE),
        Account::Customer(customer) => key.extend_from_slice(&of_node(CUSTOMER, *customer)),
        Account::Held(task) => {
            key.push(HELD);
            key.extend_from_slice(task.as_bytes());
        }
        Account::Subsidy => key.push(SUBSIDY),
        Account::Revenue => key.push(REVENUE),
        Account::Reserve => key.push(RESERVE),
        Account::Credit(owner) => key.extend_from_slice(&of_node(CREDIT, *owner)),
        Account::Reserved(redemption) => {
            key.push(RESERVED);
            key.extend_from_slice(redemption.as_bytes());
        }
        Account::Payable(app_server) => key.extend_from_slice(&of_node(PAYABLE, *app_server)),
        Account::Receivable(of) => key.extend_from_slice(&of_node(RECEIVABLE, *of)),
        Account::Sales => key.push(SALES),
    }
    match commodity {
        Commodity::Points => key.push(POINTS),
        Commodity::Money(currency) => {
            key.push(MONEY);
            key.extend_from_slice(currency.as_bytes());
        }
    }
    key
}

/// Returns the line of a key; none if it is the key of no line.
pub(super) fn line_of(mut key: &[u8]) -> Option<Line> {
    let rest = &mut key;
    let [kind] = take(rest)?;
    let account = match kind {
        ISSUED => Account::Issued,
        ESCROW => Account::Escrow(lot(rest)?),
        SPENDABLE => Account::Spendable(lot(rest)?),
        REDEEMED => Account::Redeemed(holder(rest)?),
        EXPIRED => Account::Expired(holder(rest)?),
        OUTSIDE => Account::Outside,
        CUSTOMER => Account::Customer(node(rest)?),
        HELD => Account::Held(TaskId::from_bytes(take(rest)?)),
        SUBSIDY => Account::Subsidy,
        REVENUE => Account::Revenue,
        RESERVE => Account::Reserve,
        CREDIT => Account::Credit(node(rest)?),
        RESERVED => Account::Reserved(RedemptionId::from_bytes(take(rest)?)),
        PAYABLE => Account::Payable(node(rest)?),
        RECEIVABLE => Account::Receivable(node(rest)?),
        SALES => Account::Sales,
        _ => return None,
    };
    let commodity = match take(rest)? {
        [POINTS] => Commodity::Points,
        [MONEY] => Commodity::Money(Currency::from_bytes(take(rest)?)?),
        _ => return None,
    };
    rest.is_empty().then_some((account, commodity))
}

/// Returns what the keys of all lots of an owner start with: those in escrow, and those that may be spent.
pub(super) fn lots_of_owner(owner: NodeId) -> [Vec<u8>; 2] {
    [ESCROW, SPENDABLE].map(|kind| of_node(kind, owner))
}

/// Returns what the keys of all lots of a holder start with.
pub(super) fn lots_of_holder(holder: Holder) -> [Vec<u8>; 2] {
    [ESCROW, SPENDABLE].map(|kind| of_holder(kind, holder))
}

/// Returns what the keys of all lines of a customer start with.
pub(super) fn of_customer(customer: NodeId) -> Vec<u8> {
    of_node(CUSTOMER, customer)
}

fn of_node(kind: u8, node: NodeId) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(node.as_bytes());
    key
}

fn of_holder(kind: u8, holder: Holder) -> Vec<u8> {
    let mut key = of_node(kind, holder.owner);
    key.extend_from_slice(holder.device.as_bytes());
    key
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*first)
}

fn node(rest: &mut &[u8]) -> Option<NodeId> {
    take(rest).map(NodeId::from_bytes)
}

fn holder(rest: &mut &[u8]) -> Option<Holder> {
    let (owner, device) = (node(rest)?, node(rest)?);
    Some(Holder { owner, device })
}

fn lot(rest: &mut &[u8]) -> Option<Lot> {
    Some(Lot {
        holder: holder(rest)?,
        since: Timestamp::from_millis(u64::from_be_bytes(take(rest)?)),
        card: u32::from_be_bytes(take(rest)?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few values of each kind, so that many lines differ in their last part only.
    fn lines() -> impl Strategy<Value = Line> {
        let node = || (0..3_u8).prop_map(|byte| NodeId::from_bytes([byte.wrapping_mul(255); 32]));
        let card = prop_oneof![Just(1), Just(256), Just(u32::MAX)];
        let since = prop_oneof![Just(0), Just(255), Just(256), Just(u64::MAX)];
        let holder = (node(), node()).prop_map(|(owner, device)| Holder { owner, device });
        let lot = (holder.clone(), since, card).prop_map(|(holder, since, card)| Lot {
            holder,
            since: Timestamp::from_millis(since),
            card,
        });
        let account = prop_oneof![
            prop::sample::select(vec![
                Account::Issued,
                Account::Outside,
                Account::Subsidy,
                Account::Revenue,
                Account::Reserve,
            ]),
            lot.clone().prop_map(Account::Escrow),
            lot.prop_map(Account::Spendable),
            node().prop_map(Account::Customer),
            holder.clone().prop_map(Account::Redeemed),
            holder.prop_map(Account::Expired),
            node().prop_map(Account::Credit),
            node().prop_map(Account::Payable),
            node().prop_map(Account::Receivable),
            Just(Account::Sales),
            (0..3_u8).prop_map(|byte| Account::Reserved(RedemptionId::from_bytes([byte; 16]))),
            node().prop_map(|node| Account::Held(TaskId::from_bytes(*node.as_bytes()))),
        ];
        let commodity = prop::sample::select(vec!["upt", "EUR", "EUS", "USD"])
            .prop_map(|name| Commodity::try_from(name.to_owned()).unwrap());
        (account, commodity)
    }

    proptest! {
        #[test]
        fn keys_are_read_back_and_sort_as_lines_do(one in lines(), other in lines()) {
            let (first, second) = (key_of(&one), key_of(&other));
            prop_assert_eq!(line_of(&first), Some(one));
            prop_assert_eq!(first.cmp(&second), one.cmp(&other));
        }

        #[test]
        fn lines_of_one_owner_holder_and_customer_start_alike(line in lines()) {
            let key = key_of(&line);
            let starts = |prefixes: &[Vec<u8>]| prefixes.iter().any(|prefix| key.starts_with(prefix));
            let nobody = NodeId::from_bytes([7; 32]);
            if let Some(holder) = line.0.holder() {
                prop_assert!(starts(&lots_of_owner(holder.owner)));
                prop_assert!(starts(&lots_of_holder(holder)));
                let other = Holder { device: nobody, ..holder };
                prop_assert!(!starts(&lots_of_holder(other)));
            }
            prop_assert!(!starts(&lots_of_owner(nobody)));
            if let Account::Customer(customer) = line.0 {
                prop_assert!(starts(&[of_customer(customer)]));
            }
            prop_assert!(!starts(&[of_customer(nobody)]));
        }

        #[test]
        fn no_bytes_are_the_keys_of_two_lines(bytes in prop::collection::vec(0..14_u8, 0..90)) {
            if let Some(line) = line_of(&bytes) {
                prop_assert_eq!(key_of(&line), bytes);
            }
        }
    }
}
