//! What a plausible coordinator does with two app servers: agreements, registrations, redemptions.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_protocol::account::{Holder, Lot, Money};
use tally_protocol::agreement::Agreement;
use tally_protocol::books::Posting;
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::countersignature::VerifiedPair;
use tally_protocol::entry::Event;
use tally_protocol::id::{Hash, NodeId, OrderId, RedemptionId};
use tally_protocol::points::Points;
use tally_protocol::posting;
use tally_protocol::product::ProductId;
use tally_protocol::rate_card::{Price, Rates};
use tally_protocol::redemption::{Redeem, Redemption, Reversal};
use tally_protocol::registration::{Enrolment, Registration, Revocation};
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::time::Timestamp;

use super::{Coordinator, device, identity, key, node, own_key, owner_of, sign};

/// What there is between the coordinator and its app servers.
#[derive(Debug, Default)]
pub(super) struct Partners {
    agreements: Vec<(Hash, Agreement)>,
    /// App server, device and serial.
    registered: Vec<(u64, NodeId, u64)>,
    serial: u64,
    reserved: Vec<Drawn>,
    posted: Vec<Drawn>,
}

/// Points that were drawn.
#[derive(Debug, Clone)]
struct Drawn {
    id: RedemptionId,
    shop: u64,
    redeem: Signed<Redeem>,
    certificate: Option<Signed<DeviceCertificate>>,
    agreement: Hash,
    lots: Vec<(Lot, Points)>,
    value: Money,
}

fn shop_key(shop: u64) -> SigningKey {
    key(40 + shop as u8)
}

impl Coordinator {
    fn shop(&mut self) -> u64 {
        self.chance.below(2)
    }

    /// Returns the agreement that is in force with a shop.
    fn in_force(&self, shop: u64) -> Option<(Hash, Agreement)> {
        let app_server = node(&shop_key(shop));
        let holds =
            |(_, made): &&(Hash, Agreement)| made.app_server == app_server && made.holds(self.now);
        let made = self.partners.agreements.iter().filter(holds);
        made.max_by_key(|(_, made)| made.number).cloned()
    }

    pub(super) fn agree_with_shop(&mut self) {
        let rates = self.cards.last().unwrap().rates.clone();
        if rates.reserve.minor == 0 {
            return;
        }
        let shop = self.shop();
        let agreement = Agreement {
            app_server: node(&shop_key(shop)),
            coordinator: node(&own_key()),
            number: self.partners.agreements.len() as u32 + 1,
            currency: rates.currency,
            value: Price {
                minor: rates.reserve.minor,
                micro_points: rates.reserve.micro_points + self.chance.below(900),
            },
            period_seconds: 60,
            cap: u64::MAX,
            credit: u64::MAX,
            supply_fee: 0,
            supply_devices_max: 0,
            not_before: self.now - Duration::from_secs(self.chance.below(20)),
            not_after: self.now + Duration::from_secs(1 + self.chance.below(900)),
        };
        let made = sign(agreement, &shop_key(shop));
        let pair = VerifiedPair::agree(made, &identity().network, &own_key());
        let known = (pair.hash(), pair.value().clone());
        self.partners.agreements.push(known);
        let agreement = pair.signed();
        self.append(Event::AgreementMade { agreement }, None);
    }

    /// What the owner of a holder says of its device, if that is not its own owner.
    fn certificate_of(
        &self,
        holder: Holder,
        redeem_points: u64,
    ) -> Option<Signed<DeviceCertificate>> {
        let number = (0..4).find(|number| node(&device(*number)) == holder.device)?;
        let owner = owner_of(number);
        let certificate = DeviceCertificate {
            device: holder.device,
            not_before: self.now,
            not_after: self.now + Duration::from_secs(1_000_000),
            serial: 1,
            redeem_points: Points::from_micro(redeem_points),
        };
        let shown = (node(&owner) == holder.owner).then(|| sign(certificate, &owner));
        shown.map(|shown| shown.signed().clone())
    }

    pub(super) fn register(&mut self) {
        let shop = self.shop();
        if self.in_force(shop).is_none() {
            return;
        }
        let number = self.chance.below(5);
        let holder = self.holder(node(&device(number)));
        let (product, at): (ProductId, Timestamp) = ("photo".parse().unwrap(), self.now);
        let enrolment = Enrolment {
            app_server: node(&shop_key(shop)),
            product: product.clone(),
            owner: holder.owner,
            at,
        };
        self.partners.serial += 1;
        let serial = self.partners.serial;
        let registration = Registration {
            product,
            holder,
            certificate: self.certificate_of(holder, 0),
            enrolment: sign(enrolment, &device(number)).signed().clone(),
            issued: at,
            expires: at + Duration::from_secs(3_600),
            serial,
        };
        let registration = sign(registration, &shop_key(shop)).signed().clone();
        let of = (shop, holder.device);
        let registered = &mut self.partners.registered;
        registered.retain(|(shop, device, _)| (*shop, *device) != of);
        registered.push((shop, holder.device, serial));
        self.append(Event::DeviceRegistered { registration }, None);
    }

    pub(super) fn revoke(&mut self) {
        let Some((shop, device, serial)) = self.partners.registered.pop() else {
            return;
        };
        let revocation = Revocation {
            device,
            serial,
            at: self.now,
            reason: "sold".to_owned(),
        };
        let revocation = sign(revocation, &shop_key(shop)).signed().clone();
        self.append(Event::RegistrationRevoked { revocation }, None);
    }

    fn with_rates(&self, lots: &[(Lot, Points)]) -> Vec<(Lot, Points, Rates)> {
        let rates = |lot: &Lot| self.cards[lot.card as usize - 1].rates.clone();
        let lots = lots.iter();
        lots.map(|(lot, points)| (*lot, *points, rates(lot)))
            .collect()
    }

    /// Signs for so many points, with the owner's key or, if it has one, with that of its device.
    fn order(
        &mut self,
        (shop, number): (u64, u64),
        points: Points,
    ) -> (Verified<Redeem>, Option<Signed<DeviceCertificate>>) {
        let holder = self.holder(node(&device(number)));
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.chance.below(u64::MAX).to_be_bytes());
        let redeem = Redeem {
            owner: holder.owner,
            coordinator: node(&own_key()),
            app_server: node(&shop_key(shop)),
            points,
            order: OrderId::from_bytes([3; 16]),
            nonce,
            expires: self.now + Duration::from_secs(1 + self.chance.below(200_000)),
        };
        let allowed = (self.chance.below(2) == 0).then(|| self.certificate_of(holder, u64::MAX));
        match allowed.flatten() {
            Some(certificate) => (sign(redeem, &device(number)), Some(certificate)),
            None if holder.owner == holder.device => (sign(redeem, &device(number)), None),
            None => (sign(redeem, &owner_of(number)), None),
        }
    }

    pub(super) fn set_aside(&mut self) {
        let (shop, number) = (self.shop(), self.chance.below(5));
        let Some((agreement, terms)) = self.in_force(shop) else {
            return;
        };
        let owner = self.holder(node(&device(number))).owner;
        let most = Points::from_micro(u64::MAX);
        let all = posting::draw_points(&self.books, (owner, most), |_| true).unwrap_err();
        let points = Points::from_micro(self.chance.below(1 + all.as_micro()));
        let lots = posting::draw_points(&self.books, (owner, points), |_| true).unwrap();
        let with_rates = self.with_rates(&lots);
        let value = posting::value_of(&borrowed(&with_rates), terms.value).unwrap();
        if value == 0 {
            return;
        }
        let (redeem, certificate) = self.order((shop, number), points);
        let id = RedemptionId::of(redeem.signed());
        let event = Event::PointsReserved {
            redeem: redeem.signed().clone(),
            certificate: certificate.clone(),
            at: self.now,
            until: redeem.reserved_until(self.now),
        };
        let posting = posting::reservation(id, &lots);
        self.partners.reserved.push(Drawn {
            id,
            shop,
            redeem: redeem.signed().clone(),
            certificate,
            agreement,
            lots,
            value: terms_money(&terms, value),
        });
        self.append(event, posting);
    }

    fn take(&mut self) -> Option<Drawn> {
        let count = self.partners.reserved.len();
        let place = (count > 0).then(|| self.below(count))?;
        Some(self.partners.reserved.swap_remove(place))
    }

    pub(super) fn let_go(&mut self) {
        if let Some(drawn) = self.take() {
            let posting = posting::reservation_over(drawn.id, &drawn.lots);
            let redemption = drawn.id;
            self.append(Event::ReservationEnded { redemption }, posting);
        }
    }

    pub(super) fn redeem(&mut self) {
        let Some(drawn) = self.take() else {
            return;
        };
        let with_rates = self.with_rates(&drawn.lots);
        let owed = (node(&shop_key(drawn.shop)), drawn.value);
        let posting = posting::redemption(drawn.id, &borrowed(&with_rates), owed);
        let redemption = Redemption {
            redeem: drawn.redeem.clone(),
            certificate: drawn.certificate.clone(),
            agreement: drawn.agreement,
            value: drawn.value,
            at: self.now,
        };
        let redemption = sign(redemption, &own_key()).signed().clone();
        self.partners.posted.push(drawn);
        self.append(Event::PointsRedeemed { redemption }, posting);
    }

    pub(super) fn reverse(&mut self) {
        let Some(drawn) = self.partners.posted.pop() else {
            return;
        };
        let with_rates = self.with_rates(&drawn.lots);
        let owed = (node(&shop_key(drawn.shop)), drawn.value);
        let posting = posting::reversal(drawn.id, &borrowed(&with_rates), owed);
        // What was earned with it may have been paid out; then it is not possible.
        let possible = |posting: &Posting| {
            let mut books = self.books.excerpt(posting);
            books.post(self.now, posting).is_ok()
        };
        let Some(posting) = posting.filter(possible) else {
            return;
        };
        let reversal = Reversal {
            redemption: drawn.id,
            reason: "order void".to_owned(),
            at: self.now,
        };
        let reversal = sign(reversal, &shop_key(drawn.shop)).signed().clone();
        self.append(Event::RedemptionReversed { reversal }, Some(posting));
    }
}

fn terms_money(terms: &Agreement, minor: u64) -> Money {
    let currency = terms.currency;
    Money { currency, minor }
}

fn borrowed(lots: &[(Lot, Points, Rates)]) -> Vec<(Lot, Points, &Rates)> {
    let lots = lots.iter();
    lots.map(|(lot, points, rates)| (*lot, *points, rates))
        .collect()
}
