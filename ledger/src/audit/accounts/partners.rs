//! What app servers have to do with: agreements, registrations, and points that are set aside, taken or given back.
//!
//! The cap and the credit of an agreement are computed again, as they were when points were set aside.

use std::collections::{BTreeMap, HashMap};

use tally_protocol::account::{Account, Commodity, Lot, Money};
use tally_protocol::agreement::Agreement;
use tally_protocol::books::Posting;
use tally_protocol::certificate::{self, DeviceCertificate};
use tally_protocol::countersignature::{Countersigned, hash_of};
use tally_protocol::id::{Hash, NodeId, RedemptionId};
use tally_protocol::points::Points;
use tally_protocol::posting;
use tally_protocol::rate_card::Rates;
use tally_protocol::redemption::{DEVICE_PERIOD, Redeem, Redemption, Reversal};
use tally_protocol::registration::{self, Registration, Revocation};
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::time::Timestamp;

use super::{Accounts, check_time, too_large};
use crate::audit::finding::Problem;

/// Lots, or parts of them.
type Lots = Vec<(Lot, Points)>;

/// What was agreed on with app servers, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Partners {
    /// By app server, with their names: numbers rise.
    agreements: HashMap<NodeId, Vec<(Hash, Agreement)>>,
    /// The serials of the registrations that were not revoked, by app server and device.
    registered: HashMap<(NodeId, NodeId), u64>,
    /// The highest serials that were revoked.
    revoked: HashMap<(NodeId, NodeId), u64>,
    redemptions: HashMap<RedemptionId, Known>,
    /// How many devices of each app server are registered or were.
    supplied: HashMap<NodeId, u32>,
    /// What was set aside or taken in the last period of each app server's agreement, in minor units.
    used: HashMap<NodeId, (u64, u64)>,
    /// What is set aside for each app server, in minor units.
    open: HashMap<NodeId, u64>,
    /// Those that a device signed in its owner's name: when, and which.
    by_device: HashMap<NodeId, Vec<(Timestamp, RedemptionId)>>,
}

/// A redemption.
#[derive(Debug)]
struct Known {
    app_server: NodeId,
    points: Points,
    agreement: Hash,
    /// What allows the device that signed, by its hash.
    certificate: Option<Hash>,
    value: Money,
    /// The period of the agreement in which it was set aside.
    period: u64,
    state: State,
    settled: Settled,
}

/// How much of a redemption stands in settlements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    Nothing,
    Redeemed,
    Reversed,
}

/// How far a redemption is, with the lots that were drawn for it as long as they are needed.
#[derive(Debug)]
enum State {
    Reserved(Lots),
    Over,
    Posted(Lots),
    Reversed,
}

impl Partners {
    /// Returns the agreement that was in force with an app server, with its name.
    fn in_force(&self, app_server: NodeId, at: Timestamp) -> Option<&(Hash, Agreement)> {
        let made = self.agreements.get(&app_server)?;
        made.iter().rfind(|(_, agreement)| agreement.holds(at))
    }

    /// Checks that who signed might redeem so much in the owner's name.
    fn check_signer(
        &self,
        redeem: &Verified<Redeem>,
        certificate: Option<&Verified<DeviceCertificate>>,
        at: Timestamp,
    ) -> Result<(), Problem> {
        let signer = redeem.signer();
        if signer == redeem.owner {
            return Ok(());
        }
        let none = || refused(format!("{signer} signed it, not the owner"));
        let shown = certificate.ok_or_else(none)?;
        let holder = certificate::holder(signer, Some(shown), at);
        if holder.map(|holder| holder.owner) != Ok(redeem.owner) {
            return Err(none());
        }
        let day = self.by_device.get(&signer).into_iter().flatten();
        let day = day.filter(|(then, _)| at.since(*then) <= DEVICE_PERIOD);
        let counted = day.filter_map(|(_, id)| self.redemptions.get(id));
        let counted = counted.filter(|known| !matches!(known.state, State::Over));
        let sum = counted
            .map(|known| known.points.as_micro())
            .fold(redeem.points.as_micro(), u64::saturating_add);
        let may = shown.redeem_points;
        if sum > may.as_micro() {
            let sum = Points::from_micro(sum);
            return Err(refused(format!(
                "the device may redeem {may} points in a day, these are {sum}"
            )));
        }
        Ok(())
    }

    /// Returns a redemption whose points are set aside, and takes note that they are not any more.
    fn decide(
        &mut self,
        id: RedemptionId,
        then: impl FnOnce(&[(Lot, Points)]) -> State,
    ) -> Result<(&Known, Lots), Problem> {
        let unknown = || refused(format!("no points are set aside for {id}"));
        let known = self.redemptions.get_mut(&id).ok_or_else(unknown)?;
        let State::Reserved(lots) = &mut known.state else {
            return Err(unknown());
        };
        let lots = std::mem::take(lots);
        known.state = then(&lots);
        if let Some(open) = self.open.get_mut(&known.app_server) {
            *open = open.saturating_sub(known.value.minor);
        }
        Ok((known, lots))
    }

    /// Checks that what is set aside is within the cap and the credit of the agreement. `owed` is what stands in the
    /// books.
    fn check_bounds(
        &self,
        agreement: &Agreement,
        (minor, owed): (u64, i128),
        at: Timestamp,
    ) -> Result<(), Problem> {
        let app_server = agreement.app_server;
        let used = self.used.get(&app_server);
        let used = used.filter(|(period, _)| *period == agreement.period(at));
        let used = used.map_or(0, |(_, minor)| *minor);
        let (currency, within) = (agreement.currency, |sum: u64| sum.saturating_add(minor));
        let money = |minor| Money { currency, minor };
        if within(used) > agreement.cap {
            let (sum, cap) = (money(within(used)), money(agreement.cap));
            return Err(refused(format!(
                "{sum} would be redeemed in this period, the agreement allows {cap}"
            )));
        }
        let open = self.open.get(&app_server).copied().unwrap_or(0);
        let owed = u64::try_from(owed).unwrap_or(0).saturating_add(open);
        if within(owed) > agreement.credit {
            let (sum, credit) = (money(within(owed)), money(agreement.credit));
            return Err(refused(format!(
                "{sum} would be owed and not paid, the agreement allows {credit}"
            )));
        }
        Ok(())
    }

    /// Notes what is set aside.
    fn note_reserved(&mut self, id: RedemptionId, known: Known) {
        let used = self.used.entry(known.app_server).or_default();
        if used.0 != known.period {
            *used = (known.period, 0);
        }
        used.1 = used.1.saturating_add(known.value.minor);
        let open = self.open.entry(known.app_server).or_default();
        *open = open.saturating_add(known.value.minor);
        self.redemptions.insert(id, known);
    }

    /// Counts a device if it is new to its app server. Called before anything else is known of it.
    fn note_device(&mut self, of: (NodeId, NodeId)) {
        if !self.registered.contains_key(&of) && !self.revoked.contains_key(&of) {
            let count = self.supplied.entry(of.0).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Returns how many devices an app server has ever registered.
    pub(super) fn supplied_by(&self, app_server: NodeId) -> u32 {
        self.supplied.get(&app_server).copied().unwrap_or(0)
    }

    /// Returns the agreement with this name.
    pub(super) fn agreement(&self, app_server: NodeId, name: Hash) -> Option<&Agreement> {
        let mut made = self.agreements.get(&app_server)?.iter();
        let (_, agreement) = made.find(|(hash, _)| *hash == name)?;
        Some(agreement)
    }

    /// Returns what an app server is owed for a redemption that was taken, if nobody has counted it yet; it is counted
    /// from then on.
    pub(super) fn count_redeemed(
        &mut self,
        app_server: NodeId,
        id: RedemptionId,
    ) -> Result<u64, String> {
        let known = self.redemptions.get_mut(&id);
        let known = known.filter(|known| {
            let was_taken = matches!(known.state, State::Posted(_) | State::Reversed);
            was_taken && known.app_server == app_server
        });
        let known = known.ok_or_else(|| format!("no points were taken for {id}"))?;
        if known.settled != Settled::Nothing {
            return Err(format!("{id} was counted before"));
        }
        known.settled = Settled::Redeemed;
        Ok(known.value.minor)
    }

    /// Returns what an app server is owed no more for a redemption that was counted and given back, if nobody has counted
    /// that yet; it is counted from then on.
    pub(super) fn count_reversed(
        &mut self,
        app_server: NodeId,
        id: RedemptionId,
    ) -> Result<u64, String> {
        let known = self.redemptions.get_mut(&id);
        let known = known.filter(|known| {
            matches!(known.state, State::Reversed) && known.app_server == app_server
        });
        let known = known.ok_or_else(|| format!("no points were given back for {id}"))?;
        if known.settled != Settled::Redeemed {
            return Err(format!("that {id} was given back does not count"));
        }
        known.settled = Settled::Reversed;
        Ok(known.value.minor)
    }
}

impl Accounts {
    /// Returns the points that are set aside, by the version of the card.
    pub(in crate::audit) fn reserved(&self) -> BTreeMap<u32, u128> {
        let mut by_card: BTreeMap<u32, u128> = BTreeMap::new();
        let known = self.partners.redemptions.values();
        let lots = known.filter_map(|known| match &known.state {
            State::Reserved(lots) => Some(lots),
            State::Over | State::Posted(_) | State::Reversed => None,
        });
        for (lot, points) in lots.flatten() {
            let sum = by_card.entry(lot.card).or_default();
            *sum = sum.saturating_add(points.as_micro().into());
        }
        by_card
    }

    pub(super) fn agreed(
        &mut self,
        agreement: &Countersigned<Agreement>,
    ) -> Result<Option<Posting>, Problem> {
        let refused = |reason: String| Problem::Agreement { reason };
        let pair = agreement.clone().verify(&self.network);
        let pair = pair.map_err(|error| refused(format!("failed to {error}")))?;
        let (signers, terms) = (pair.signers(), pair.value());
        let between = (terms.app_server, terms.coordinator);
        if between != signers || ![between.0, between.1].contains(&self.node) {
            let (one, other) = signers;
            return Err(refused(format!("{one} and {other} signed it")));
        }
        if terms.coordinator != self.node {
            return self.bought(&pair).map(|()| None);
        }
        let known = self.partners.agreements.entry(terms.app_server);
        let known = known.or_default();
        let newest = known.last().map_or(0, |(_, newest)| newest.number);
        if terms.number <= newest {
            return Err(refused(format!(
                "its number is {}, that of the one before is {newest}",
                terms.number
            )));
        }
        let (_, card) = self
            .cards
            .last()
            .ok_or_else(|| refused("there is no rate card before it".to_owned()))?;
        let checked = terms.check(&card.rates);
        checked.map_err(|fault| refused(fault.to_string()))?;
        known.push((pair.hash(), terms.clone()));
        Ok(None)
    }

    pub(super) fn registered(
        &mut self,
        written: Timestamp,
        registration: &Signed<Registration>,
    ) -> Result<Option<Posting>, Problem> {
        let refused = |reason: String| Problem::Registration { reason };
        let verified = registration.clone().verify(&self.network);
        let verified = verified.map_err(|error| refused(format!("failed to {error}")))?;
        let checked = registration::check(&verified, &self.network);
        checked.map_err(|fault| refused(format!("failed to {fault}")))?;
        let partners = &mut self.partners;
        let made = partners.agreements.get(&verified.signer());
        let mut made = made.into_iter().flatten();
        if !made.any(|(_, agreement)| agreement.not_before <= written) {
            let app_server = verified.signer();
            return Err(refused(format!("there is no agreement with {app_server}")));
        }
        let of = (verified.signer(), verified.holder.device);
        let before = [partners.registered.get(&of), partners.revoked.get(&of)];
        if let Some(before) = before.into_iter().flatten().max()
            && verified.serial <= *before
        {
            let serial = verified.serial;
            return Err(refused(format!(
                "its serial is {serial}, {before} was registered or revoked before"
            )));
        }
        partners.note_device(of);
        partners.registered.insert(of, verified.serial);
        Ok(None)
    }

    pub(super) fn revoked(
        &mut self,
        revocation: &Signed<Revocation>,
    ) -> Result<Option<Posting>, Problem> {
        let refused = |reason: String| Problem::Registration { reason };
        let verified = revocation.clone().verify(&self.network);
        let verified = verified.map_err(|error| refused(format!("failed to {error}")))?;
        if !registration::is_reason(&verified.reason) {
            return Err(refused("its reason is not well formed".to_owned()));
        }
        let partners = &mut self.partners;
        let of = (verified.signer(), verified.device);
        let unknown = || refused("what it ends is not registered".to_owned());
        let registered = *partners.registered.get(&of).ok_or_else(unknown)?;
        let serial = verified.serial;
        if partners
            .revoked
            .get(&of)
            .is_some_and(|last| serial <= *last)
        {
            return Err(refused(format!("serial {serial} was revoked before")));
        }
        partners.revoked.insert(of, serial);
        if registered <= serial {
            partners.registered.remove(&of);
        }
        Ok(None)
    }

    pub(super) fn set_aside(
        &mut self,
        written: Timestamp,
        (signed, shown): (&Signed<Redeem>, Option<&Signed<DeviceCertificate>>),
        (at, until): (Timestamp, Timestamp),
    ) -> Result<Option<Posting>, Problem> {
        check_time(at, written)?;
        let id = RedemptionId::of(signed);
        if self.partners.redemptions.contains_key(&id) {
            return Err(refused(format!("points were set aside for {id} before")));
        }
        let redeem = verify(signed, self)?;
        let certificate = shown.map(|shown| verify(shown, self)).transpose()?;
        if redeem.coordinator != self.node {
            return Err(refused("it is for another coordinator".to_owned()));
        }
        if redeem.expires <= at {
            return Err(refused("it had expired".to_owned()));
        }
        let latest = redeem.reserved_until(at);
        if until != latest {
            return Err(refused(format!("it is until {until}, not {latest}")));
        }
        self.partners
            .check_signer(&redeem, certificate.as_ref(), at)?;
        let in_force = self.partners.in_force(redeem.app_server, at);
        let none = || refused(format!("no agreement with {} held", redeem.app_server));
        let (agreement, terms) = in_force.ok_or_else(none)?;
        let counts = |lot: &Lot| {
            let rates = self.rates(lot.card);
            rates.is_some_and(|rates| rates.currency == terms.currency)
        };
        let drawn = posting::draw_points(&self.books, (redeem.owner, redeem.points), counts);
        let lots = drawn.map_err(|available| {
            refused(format!("the owner could spend {available} points only"))
        })?;
        let minor = posting::value_of(&self.with_rates(&lots)?, terms.value);
        let (currency, minor) = (terms.currency, minor.ok_or_else(too_large)?);
        let line = Account::Payable(redeem.app_server);
        let owed = self.books.balance(line, Commodity::Money(currency));
        self.partners
            .check_bounds(terms, (minor, owed.posted()), at)?;
        let expected = posting::reservation(id, &lots);
        let known = Known {
            app_server: redeem.app_server,
            points: redeem.points,
            agreement: *agreement,
            certificate: shown.map(hash_of),
            value: Money { currency, minor },
            period: terms.period(at),
            state: State::Reserved(lots),
            settled: Settled::Nothing,
        };
        self.partners.note_reserved(id, known);
        if redeem.signer() != redeem.owner {
            let of_device = self.partners.by_device.entry(redeem.signer());
            of_device.or_default().push((at, id));
        }
        expected
            .map(Some)
            .ok_or_else(|| refused("it is for no points".to_owned()))
    }

    pub(super) fn let_go(&mut self, id: RedemptionId) -> Result<Option<Posting>, Problem> {
        let (known, lots) = self.partners.decide(id, |_| State::Over)?;
        let (app_server, period, minor) = (known.app_server, known.period, known.value.minor);
        let used = self.partners.used.get_mut(&app_server);
        if let Some(used) = used.filter(|used| used.0 == period) {
            used.1 = used.1.saturating_sub(minor);
        }
        Ok(posting::reservation_over(id, &lots))
    }

    pub(super) fn redeemed(
        &mut self,
        written: Timestamp,
        signed: &Signed<Redemption>,
    ) -> Result<Option<Posting>, Problem> {
        let redemption = verify(signed, self)?;
        let signer = redemption.signer();
        if signer != self.node {
            let redeem = verify(&redemption.redeem, self)?;
            return if redeem.app_server == self.node {
                self.taken(&redemption, &redeem).map(|()| None)
            } else {
                Err(refused(format!("{signer} signed it, not the coordinator")))
            };
        }
        check_time(redemption.at, written)?;
        let id = RedemptionId::of(&redemption.redeem);
        let taken = |lots: &[(Lot, Points)]| State::Posted(lots.to_vec());
        let (known, lots) = self.partners.decide(id, taken)?;
        if redemption.certificate.as_ref().map(hash_of) != known.certificate {
            return Err(refused("it shows another certificate".to_owned()));
        }
        let (value, agreement) = (known.value, known.agreement);
        if redemption.agreement != agreement {
            return Err(refused(format!(
                "it is by agreement {}, in force was {agreement}",
                redemption.agreement
            )));
        }
        if redemption.value != value {
            let found = redemption.value;
            return Err(refused(format!(
                "its points are worth {value}, not {found}"
            )));
        }
        let owed = (known.app_server, value);
        let posting = posting::redemption(id, &self.with_rates(&lots)?, owed);
        posting.map(Some).ok_or_else(too_large)
    }

    pub(super) fn reversed(
        &mut self,
        written: Timestamp,
        signed: &Signed<Reversal>,
    ) -> Result<Option<Posting>, Problem> {
        let reversal = verify(signed, self)?;
        if !registration::is_reason(&reversal.reason) {
            return Err(refused("its reason is not well formed".to_owned()));
        }
        if reversal.signer() == self.node {
            return self.given_back(written, &reversal);
        }
        let id = reversal.redemption;
        let unknown = || refused(format!("no points were taken for {id}"));
        let known = self.partners.redemptions.get_mut(&id);
        let known = known.ok_or_else(unknown)?;
        let (signer, app_server) = (reversal.signer(), known.app_server);
        if signer != app_server {
            return Err(refused(format!("{signer} signed it, not the app server")));
        }
        let State::Posted(lots) = &mut known.state else {
            return Err(unknown());
        };
        let (lots, value) = (std::mem::take(lots), known.value);
        known.state = State::Reversed;
        let posting = posting::reversal(id, &self.with_rates(&lots)?, (app_server, value));
        posting.map(Some).ok_or_else(too_large)
    }

    fn with_rates(&self, lots: &[(Lot, Points)]) -> Result<Vec<(Lot, Points, &Rates)>, Problem> {
        let lots = lots.iter();
        let rates = lots.map(|(lot, points)| Some((*lot, *points, self.rates(lot.card)?)));
        rates.collect::<Option<Vec<_>>>().ok_or_else(too_large)
    }
}

fn verify<T: tally_protocol::signed::Statement + Clone>(
    signed: &Signed<T>,
    accounts: &Accounts,
) -> Result<Verified<T>, Problem> {
    let verified = signed.clone().verify(&accounts.network);
    verified.map_err(|error| refused(format!("failed to {error}")))
}

const fn refused(reason: String) -> Problem {
    Problem::Redemption { reason }
}
