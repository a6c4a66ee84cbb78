//! Coordinator and app server agree on what is owed.

use std::collections::BTreeMap;

use tally_ledger::store::{Change, Store};
use tally_protocol::account::{Account, Commodity};
use tally_protocol::app_server::{AppServer, Effect};
use tally_protocol::books::Books;

use super::paid::audited;
use super::{Check, Oracle};
use crate::peer::Peer;
use crate::reference::Reference;
use crate::scenario::currency;
use crate::world::World;

/// Keeps books of its own of what app servers write.
#[derive(Debug, Default)]
pub(super) struct Partners(BTreeMap<Peer, Books>);

impl Oracle for Partners {
    fn name(&self) -> &'static str {
        "both books agree"
    }

    fn claim(&self) -> &'static str {
        "What a coordinator owes an app server by its own books, it owes by those of the app server; the books of an app \
         server's machine, its tables and its log are equal, add up, and are sound by an audit."
    }

    fn sells(
        &mut self,
        _: &Reference,
        app_server: Peer,
        (_, change): (&[Effect], &Change),
    ) -> Check {
        let books = self.0.entry(app_server).or_default();
        let mut check = Check::Nothing;
        for draft in &change.events {
            let Some(posting) = &draft.posting else {
                continue;
            };
            check = Check::Holds;
            if let Err(fault) = books.post(draft.at, posting) {
                return Check::Breaks(format!("{app_server} posts what is not possible: {fault}"));
            }
        }
        check
    }

    fn shop_restored(
        &mut self,
        _: &Reference,
        app_server: Peer,
        restored: (&AppServer, &Store),
    ) -> Check {
        self.compare(app_server, restored)
    }

    fn at_end(&mut self, _: &Reference, world: &World) -> Check {
        if !world.has_settled() {
            return Check::Nothing;
        }
        let mut check = Check::Nothing;
        let money = Commodity::Money(currency());
        for (shop, seller, store) in world.app_servers() {
            if let wrong @ Check::Breaks(_) = self.compare(shop, (seller, store)) {
                return wrong;
            }
            if let Err(what) = audited(store) {
                return Check::Breaks(format!("the audit of {shop} says: {what}"));
            }
            for (peer, machine, _) in world.coordinators() {
                check = Check::Holds;
                let owes = machine
                    .books()
                    .balance(Account::Payable(world.id(shop)), money);
                let owed = seller
                    .books()
                    .balance(Account::Receivable(world.id(peer)), money);
                if owes.posted() != -owed.posted() {
                    return Check::Breaks(format!(
                        "{peer} owes {shop} {} by its own books, and {} by those of {shop}",
                        owes.posted(),
                        -owed.posted()
                    ));
                }
            }
        }
        check
    }
}

impl Partners {
    /// Holds the books of the machine, of the tables and of the log against each other.
    fn compare(&mut self, peer: Peer, (machine, store): (&AppServer, &Store)) -> Check {
        let books = self.0.entry(peer).or_default();
        let tables = store.books().expect("a store that opens can be read");
        if machine.books() != books {
            return Check::Breaks(format!("the books of {peer} are not those of its log"));
        }
        if tables != *books {
            return Check::Breaks(format!("the tables of {peer} are not those of its log"));
        }
        let sum: i128 = books.balances().map(|(_, line)| line.posted()).sum();
        Check::that(sum == 0, || {
            format!("the books of {peer} do not add up: {sum}")
        })
    }
}
