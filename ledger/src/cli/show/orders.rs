//! What an app server charges, gets and gives back for orders, as text for people.

use crate::cli::text::Text;
use crate::cli::view::EventDetail;

/// Tells an event about an order; nothing of any other.
pub(super) fn event(text: &mut Text, event: &EventDetail) {
    if let EventDetail::OrderCharged { order, user, .. }
    | EventDetail::OrderPaid { order, user, .. }
    | EventDetail::OrderRefunded { order, user, .. } = event
    {
        text.field("order", &order.to_string());
        text.field("user", &user.to_string());
    }
    if let EventDetail::OrderCharged {
        fee, due, parts, ..
    } = event
    {
        text.field("fee", &fee.to_string());
        text.field("user owes", &due.to_string());
        for part in parts {
            text.line("");
            text.field("owed too", &part.money.to_string());
            text.field("by", &part.coordinator.to_string());
            text.field("redemption", &part.redemption.to_string());
        }
    }
    if let EventDetail::OrderPaid {
        money, reference, ..
    } = event
    {
        text.field("amount", &money.to_string());
        text.field("reference", reference);
    }
    if let EventDetail::OrderRefunded { due, paid, .. } = event {
        text.field("owed no more", &due.to_string());
        text.field("given back", &paid.to_string());
    }
}
