//! The rate cards that a coordinator has published. They are never forgotten: points were earned under each.

use super::{Coordinator, Effect, Fact};
use crate::entry::Event;
use crate::id::RateCardId;
use crate::rate_card::RateCard;
use crate::signed::{Signed, Verified};
use crate::time::Timestamp;

/// All rate cards, by their versions.
#[derive(Debug, Default)]
pub(super) struct Cards {
    /// Version 1 first.
    cards: Vec<Verified<RateCard>>,
}

impl Cards {
    pub(super) fn add(&mut self, card: Verified<RateCard>) {
        self.cards.push(card);
    }

    pub(super) fn signed(&self) -> impl Iterator<Item = &Signed<RateCard>> {
        self.cards.iter().map(Verified::signed)
    }

    /// Returns the card in force, if any was published.
    pub(super) fn current(&self) -> Option<&Verified<RateCard>> {
        self.cards.last()
    }

    /// Returns the card with this id.
    pub(super) fn find(&self, id: RateCardId) -> Option<&Verified<RateCard>> {
        self.cards.iter().rev().find(|card| card.id() == id)
    }

    /// Returns a card that a task or a lot names.
    pub(super) fn version(&self, version: u32) -> &Verified<RateCard> {
        let card = self.cards.iter().find(|card| card.version == version);
        card.expect("tasks and lots name cards that were published")
    }
}

impl Coordinator {
    /// Returns the rate card in force; none before the first [`Coordinator::resume`].
    #[must_use]
    pub fn rate_card(&self) -> Option<&Verified<RateCard>> {
        self.cards.current()
    }

    /// Publishes the rates of the configuration if they are others than those in force.
    pub(super) fn publish_rates(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let current = self.cards.current();
        if current.is_some_and(|card| card.rates == self.config.rates) {
            return;
        }
        let card = RateCard {
            version: current.map_or(1, |card| card.version + 1),
            published: now,
            rates: self.config.rates.clone(),
        };
        let card = Verified::sign(card, &self.config.network, &self.config.key);
        let signed = card.signed().clone();
        self.cards.add(card);
        out.push(Effect::Record(Fact::Published(signed.clone())));
        self.append(now, Event::RateCardPublished { card: signed }, None, out);
    }
}
