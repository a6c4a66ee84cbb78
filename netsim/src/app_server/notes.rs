//! What is a fact at an app server, for those who look on.

use tally_protocol::app_server::{
    AgreementFact, Effect, Fact, OrderChange, SettlementFact, UserFact,
};
use tally_protocol::id::NodeId;

use super::AppServerNode;
use crate::happening::Happening;
use crate::stage::Stage;

impl AppServerNode {
    /// Notes what the records of these effects have made a fact.
    pub(super) fn note_durable(&self, stage: &mut Stage, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Record(Fact::Settlement(SettlementFact::Paid(with, number, _))) = effect
            {
                stage.payments.insert((self.id, *with, *number));
            }
            if let Effect::Record(fact) = effect
                && let Some(what) = self.noted(stage, fact)
            {
                stage.note(&what);
            }
        }
    }

    fn noted(&self, stage: &Stage, fact: &Fact) -> Option<Happening> {
        let by = self.peer;
        let peer = |node: &NodeId| stage.directory.peer(node);
        Some(match fact {
            Fact::Agreement(AgreementFact::Made(made)) => Happening::Agreed {
                by,
                with: peer(&made.agreement.coordinator)?,
            },
            Fact::User(UserFact::Registered { holder, .. }) => Happening::Registered {
                by,
                device: peer(&holder.device)?,
                holds: true,
            },
            Fact::User(UserFact::Revoked { device, .. }) => Happening::Registered {
                by,
                device: peer(device)?,
                holds: false,
            },
            Fact::Opened(order) => Happening::OrderChanged {
                by,
                order: order.id,
                how: "opened",
            },
            Fact::Order { order, change, .. } => Happening::OrderChanged {
                by,
                order: *order,
                how: change_name(change),
            },
            Fact::Settlement(fact) => settlement(by, fact)?,
            Fact::Product(_)
            | Fact::Offer(_)
            | Fact::Agreement(AgreementFact::Proposed(..) | AgreementFact::Declined(..))
            | Fact::User(UserFact::Delivered { .. } | UserFact::Told(..))
            | Fact::Forgotten(_)
            | Fact::Status(..)
            | Fact::Listed(_)
            | Fact::VoucherUsed(..) => return None,
        })
    }
}

fn settlement(by: crate::peer::Peer, fact: &SettlementFact) -> Option<Happening> {
    let (number, how) = match fact {
        SettlementFact::Stated(open) => (open.value.number, "stated"),
        SettlementFact::Paid(_, number, _) => (*number, "paid"),
        SettlementFact::Agreed(..)
        | SettlementFact::Disputed(..)
        | SettlementFact::Refused(..)
        | SettlementFact::Resolved(..) => return None,
    };
    Some(Happening::SettlementStands { by, number, how })
}

/// Returns a name for what happens to an order.
const fn change_name(change: &OrderChange) -> &'static str {
    match change {
        OrderChange::Redeemed(_) => "redeeming",
        OrderChange::Reserved { .. } => "points set aside",
        OrderChange::Decided => "decided",
        OrderChange::Taken(..) => "points taken",
        OrderChange::Posted => "posted",
        OrderChange::Paid(_) => "paid",
        OrderChange::Fulfilled(_) => "fulfilled",
        OrderChange::Voided(_) => "voided",
        OrderChange::Refunded => "refunded",
        OrderChange::FoundTaken(_) => "points found taken",
        OrderChange::LegEnded(_) => "points let go",
    }
}
