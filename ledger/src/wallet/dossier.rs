//! A receipt with everything that proves it: what an owner hands to somebody who has to believe it.
//!
//! A dossier stands for itself: receipt, batches, leaves, grants and rate card are signed by coordinator or device, so
//! whoever has the coordinator's key can check it without asking anybody. What is not there any more is said to be
//! missing, which is no fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tally_protocol::checkpoint::log_proof::LogProof;
use tally_protocol::codec;
use tally_protocol::entry::{ENTRY_BYTES_MAX, Entry, Event};
use tally_protocol::id::{GrantId, Hash, NetworkId, NodeId, ReceiptId};
use tally_protocol::merkle;
use tally_protocol::message::blob::BlobGrant;
use tally_protocol::message::work::{Batch, Grant, LeasedUnit, UnitResult};
use tally_protocol::points::Points;
use tally_protocol::rate_card::{Measured, RateCard};
use tally_protocol::receipt::Receipt;
use tally_protocol::signed::{Signed, Statement, Verified};
use tally_protocol::task::tiles;

/// The longest dossier as text: as many batches and grants of full length as a receipt can name are far longer, but
/// one second of work is far shorter.
pub const DOSSIER_BYTES_MAX: u64 = 64 << 20;

/// A receipt with what proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dossier {
    /// The network that all of it is of.
    pub network: NetworkId,
    /// Who owes.
    pub coordinator: NodeId,
    /// The receipt.
    #[serde(with = "base64")]
    pub receipt: Signed<Receipt>,
    /// The rate card by which it counts.
    #[serde(with = "base64_or_none")]
    pub card: Option<Signed<RateCard>>,
    /// The batches that it names.
    pub batches: Vec<DossierBatch>,
    /// The grants of their results.
    pub grants: Vec<DossierGrant>,
    /// What proves that it stands in the coordinator's log.
    pub proof: Option<DossierProof>,
}

/// An entry of a log, with its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DossierProof {
    /// The stored bytes of the entry.
    #[serde(with = "bytes_as_base64")]
    pub entry: Vec<u8>,
    /// The proof as text (C2SP tlog-proof).
    pub proof: String,
}

/// A batch with its leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DossierBatch {
    /// As the device signed it.
    #[serde(with = "base64")]
    pub batch: Signed<Batch>,
    /// Its leaves.
    pub results: Vec<UnitResult>,
}

/// A grant, with the right to read what it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DossierGrant {
    /// As the coordinator signed it.
    #[serde(with = "base64")]
    pub grant: Signed<Grant>,
    /// As the coordinator signed it; not for strangers.
    #[serde(with = "base64_or_none")]
    pub read: Option<Signed<BlobGrant>>,
}

/// Why there is nothing to check.
#[derive(Debug, thiserror::Error)]
pub enum DossierError {
    /// The receipt itself is no statement of its coordinator.
    #[error("accept the receipt: {0}")]
    Receipt(String),
}

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The receipt is signed by the coordinator.
    Receipt,
    /// The device has signed the batches, and their leaves are what it signed.
    Batches,
    /// Each result that is paid is a leaf of a batch, and no leaf is paid twice.
    Leaves,
    /// The coordinator has leased the units of all results to the device.
    Grants,
    /// The rate card is the coordinator's and the one that receipt and grants name.
    Card,
    /// The amounts are those of the results by the rate card.
    Amounts,
    /// The receipt stands in the coordinator's log.
    Logged,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Receipt => "signature of the coordinator",
            Self::Batches => "signature of the device",
            Self::Leaves => "results in the batches",
            Self::Grants => "leases of the units",
            Self::Card => "rate card",
            Self::Amounts => "amounts",
            Self::Logged => "entry in the log",
        })
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", content = "what", rename_all = "snake_case")]
pub enum Finding {
    /// It is as it should be.
    Right,
    /// What is needed for it is not there.
    Missing(String),
    /// It is not.
    Wrong(String),
}

/// What all checks of a dossier found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// The receipt.
    pub id: ReceiptId,
    /// Who has signed it.
    pub coordinator: NodeId,
    /// What it says.
    pub receipt: Receipt,
    /// The checks, in order.
    pub checks: Vec<(Check, Finding)>,
}

impl Verification {
    /// Returns whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let wrong = |(_, finding): &(Check, Finding)| matches!(finding, Finding::Wrong(_));
        !self.checks.iter().any(wrong)
    }

    /// Returns whether nothing is wrong and nothing is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let right = |(_, finding): &(Check, Finding)| *finding == Finding::Right;
        self.checks.iter().all(right)
    }
}

/// The paid results of one grant, to be run again.
#[derive(Debug, Clone)]
pub struct Work {
    /// The grant.
    pub grant: Verified<Grant>,
    /// The right to read its program and inputs.
    pub read: Option<Signed<BlobGrant>>,
    /// Units with what they gave.
    pub units: Vec<(LeasedUnit, UnitResult)>,
}

/// The paid results, found in the batches.
struct Paid<'a> {
    found: Vec<&'a UnitResult>,
    missing: usize,
}

impl Dossier {
    /// Returns the grants of the results that the receipt pays, as far as their batches are here.
    #[must_use]
    pub fn named_grants(&self, receipt: &Receipt) -> BTreeSet<GrantId> {
        let paid = self.paid(receipt);
        let results = paid.iter().flat_map(|paid| &paid.found);
        results.map(|result| result.grant).collect()
    }

    /// Checks everything. `key` is the coordinator's key, if it is known from elsewhere.
    ///
    /// # Errors
    /// [`DossierError`] if the receipt itself cannot be read, or is not signed by whom it should be.
    pub fn verify(&self, key: Option<NodeId>) -> Result<Verification, DossierError> {
        let receipt = self.receipt(key)?;
        let paid = self.paid(&receipt);
        let leaves = match &paid {
            Ok(paid) if paid.missing == 0 => Finding::Right,
            Ok(paid) => Finding::Missing(format!("{} results", paid.missing)),
            Err(what) => Finding::Wrong(what.clone()),
        };
        let paid = paid.map(|paid| paid.found).unwrap_or_default();
        let checks = vec![
            (Check::Receipt, Finding::Right),
            (Check::Batches, self.check_batches(&receipt)),
            (Check::Leaves, leaves),
            (Check::Grants, self.check_grants(&receipt, &paid)),
            (Check::Card, self.check_card(&receipt)),
            (Check::Amounts, self.check_amounts(&receipt, &paid)),
            (Check::Logged, self.check_proof(&receipt)),
        ];
        Ok(Verification {
            id: receipt.id(),
            coordinator: receipt.signer(),
            receipt: receipt.value().clone(),
            checks,
        })
    }

    /// Returns the paid results by grant, with those that are not here left out.
    ///
    /// # Errors
    /// [`DossierError`] as in [`Dossier::verify`].
    pub fn work(&self) -> Result<Vec<Work>, DossierError> {
        let receipt = self.receipt(None)?;
        let mut work: BTreeMap<GrantId, Work> = BTreeMap::new();
        for held in &self.grants {
            if let Some(grant) = self.grant(held, &receipt) {
                let (read, units) = (held.read.clone(), Vec::new());
                work.insert(grant.id, Work { grant, read, units });
            }
        }
        let paid = self.paid(&receipt).map_err(DossierError::Receipt)?;
        for result in paid.found {
            let Some(work) = work.get_mut(&result.grant) else {
                continue;
            };
            let mut units = work.grant.units.iter();
            if let Some(leased) = units.find(|leased| leased.unit == result.unit).cloned() {
                work.units.push((leased, result.clone()));
            }
        }
        Ok(work.into_values().collect())
    }

    fn receipt(&self, key: Option<NodeId>) -> Result<Verified<Receipt>, DossierError> {
        let fault = |what: String| DossierError::Receipt(what);
        let verified = self.receipt.clone().verify(&self.network);
        let receipt = verified.map_err(|error| fault(error.to_string()))?;
        let expected = key.unwrap_or(self.coordinator);
        if receipt.signer() != expected {
            let signer = receipt.signer();
            return Err(fault(format!(
                "it is signed by {signer}, not by {expected}"
            )));
        }
        if !receipt.is_well_formed() || receipt.leased_at > receipt.done_at {
            return Err(fault("what it says makes no sense".to_owned()));
        }
        Ok(receipt)
    }

    /// Returns the results that the receipt names.
    fn paid(&self, receipt: &Receipt) -> Result<Paid<'_>, String> {
        let mut batches: BTreeMap<Hash, &[UnitResult]> = BTreeMap::new();
        for batch in &self.batches {
            batches.insert(root_of(&batch.results), &batch.results);
        }
        let mut paid = Paid {
            found: Vec::new(),
            missing: 0,
        };
        let mut seen = BTreeSet::new();
        for (root, leaf, unit) in receipt.results() {
            if !seen.insert((root, leaf)) {
                return Err(format!("leaf {leaf} of batch {root} is paid twice"));
            }
            let Some(results) = batches.get(&root) else {
                paid.missing = paid.missing.saturating_add(1);
                continue;
            };
            let result = usize::try_from(leaf)
                .ok()
                .and_then(|leaf| results.get(leaf));
            match result {
                Some(result) if result.unit == unit => paid.found.push(result),
                Some(result) => {
                    let is = result.unit;
                    return Err(format!(
                        "leaf {leaf} of batch {root} is unit {is}, not {unit}"
                    ));
                }
                None => return Err(format!("batch {root} has no leaf {leaf}")),
            }
        }
        Ok(paid)
    }

    fn check_batches(&self, receipt: &Verified<Receipt>) -> Finding {
        let mut roots = BTreeSet::new();
        for held in &self.batches {
            let batch = match held.batch.clone().verify(&self.network) {
                Ok(batch) => batch,
                Err(error) => return Finding::Wrong(error.to_string()),
            };
            let root = batch.root;
            if batch.signer() != receipt.holder.device {
                let signer = batch.signer();
                return Finding::Wrong(format!("batch {root} is signed by {signer}"));
            }
            if batch.coordinator != receipt.signer() {
                return Finding::Wrong(format!("batch {root} is for another coordinator"));
            }
            if root_of(&held.results) != root || held.results.len() != batch.count as usize {
                return Finding::Wrong(format!("batch {root} has other leaves than were signed"));
            }
            roots.insert(root);
        }
        let named = receipt.shares.iter().map(|share| share.batch);
        let missing = named.filter(|root| !roots.contains(root)).count();
        missing_or_right(missing, "batches")
    }

    /// Returns a grant if the coordinator made it for this work.
    fn grant(&self, held: &DossierGrant, receipt: &Verified<Receipt>) -> Option<Verified<Grant>> {
        let grant = held.grant.clone().verify(&self.network).ok()?;
        let fits = grant.signer() == receipt.signer()
            && grant.device == receipt.holder.device
            && grant.task == receipt.task
            && grant.profile == receipt.profile
            && grant.rate_card == receipt.rate_card;
        fits.then_some(grant)
    }

    fn check_grants(&self, receipt: &Verified<Receipt>, paid: &[&UnitResult]) -> Finding {
        let mut leased = BTreeSet::new();
        let mut known = BTreeSet::new();
        for held in &self.grants {
            let Some(grant) = self.grant(held, receipt) else {
                return Finding::Wrong(
                    "a grant is not by this coordinator for this work".to_owned(),
                );
            };
            known.insert(grant.id);
            leased.extend(grant.units.iter().map(|unit| (grant.id, unit.unit)));
        }
        let mut missing = BTreeSet::new();
        for result in paid {
            if !known.contains(&result.grant) {
                missing.insert(result.grant);
            } else if !leased.contains(&(result.grant, result.unit)) {
                let (unit, grant) = (result.unit, result.grant);
                return Finding::Wrong(format!("unit {unit} was not leased by grant {grant}"));
            }
        }
        missing_or_right(missing.len(), "grants")
    }

    fn check_proof(&self, receipt: &Verified<Receipt>) -> Finding {
        match &self.proof {
            None => Finding::Missing("the proof".to_owned()),
            Some(proof) => match proof.verify(receipt, &self.network) {
                Ok(()) => Finding::Right,
                Err(what) => Finding::Wrong(what),
            },
        }
    }

    fn verified_card(&self, receipt: &Verified<Receipt>) -> Result<Option<RateCard>, String> {
        let Some(card) = &self.card else {
            return Ok(None);
        };
        let id = card.id();
        let card = card.clone().verify(&self.network);
        let card = card.map_err(|error| error.to_string())?;
        if card.signer() != receipt.signer() {
            return Err(format!("it is signed by {}", card.signer()));
        }
        if id != receipt.rate_card {
            return Err(format!(
                "it is {id}, the receipt names {}",
                receipt.rate_card
            ));
        }
        let sane = card.rates.check();
        sane.map_err(|error| error.to_string())?;
        Ok(Some(card.value().clone()))
    }

    fn check_card(&self, receipt: &Verified<Receipt>) -> Finding {
        match self.verified_card(receipt) {
            Ok(Some(_)) => Finding::Right,
            Ok(None) => Finding::Missing("the rate card".to_owned()),
            Err(what) => Finding::Wrong(what),
        }
    }

    fn check_amounts(&self, receipt: &Verified<Receipt>, paid: &[&UnitResult]) -> Finding {
        let Ok(Some(card)) = self.verified_card(receipt) else {
            return Finding::Missing("the rate card".to_owned());
        };
        let mut units = BTreeMap::new();
        for held in &self.grants {
            if let Some(grant) = self.grant(held, receipt) {
                let (id, program, limit) = (grant.id, grant.program.id, grant.limits.fuel);
                for unit in &grant.units {
                    let pixels = tiles::core_pixels(&unit.params);
                    units.insert((id, unit.unit), (program, limit, unit.bytes, pixels));
                }
            }
        }
        let mut sums = (0_u64, 0_u64, 0_u64, Points::ZERO);
        let mut missing = usize::try_from(receipt.units)
            .unwrap_or(usize::MAX)
            .saturating_sub(paid.len());
        for result in paid {
            let Some((program, fuel_limit, input, pixels)) =
                units.get(&(result.grant, result.unit)).copied()
            else {
                missing = missing.saturating_add(1);
                continue;
            };
            let measured = Measured {
                outcome: result.outcome,
                fuel: result.fuel,
                fuel_limit,
                bytes: input.saturating_add(result.output.bytes),
                pixels,
            };
            let points = card
                .rates
                .points(program, &measured)
                .unwrap_or(Points::ZERO);
            sums = (
                sums.0.saturating_add(measured.fuel),
                sums.1.saturating_add(measured.bytes),
                sums.2.saturating_add(measured.pixels),
                sums.3.checked_add(points).unwrap_or(sums.3),
            );
        }
        let said = (receipt.fuel, receipt.bytes, receipt.pixels, receipt.points);
        if missing > 0 {
            missing_or_right(missing, "results or their grants")
        } else if sums == said {
            Finding::Right
        } else {
            Finding::Wrong(format!(
                "{} fuel, {} bytes, {} pixels, {} points; the results have {} fuel, {} bytes, {} \
                 pixels, {} points",
                said.0, said.1, said.2, said.3, sums.0, sums.1, sums.2, sums.3
            ))
        }
    }
}

impl DossierProof {
    /// Checks that the entry is that of `receipt`, and stands in the log of who signed it.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn verify(&self, receipt: &Verified<Receipt>, network: &NetworkId) -> Result<(), String> {
        let entry: Entry = codec::from_bytes(&self.entry, ENTRY_BYTES_MAX)
            .map_err(|error| format!("the entry cannot be read: {error}"))?;
        let is_its = matches!(
            &entry.event,
            Event::Receipted { receipt: logged, .. } if logged == receipt.signed()
        );
        if !is_its {
            return Err("the entry is of another receipt".to_owned());
        }
        let proof: LogProof = self.proof.parse().map_err(|error| format!("{error}"))?;
        let checkpoint = proof.verify(&self.entry, network);
        let checkpoint = checkpoint.map_err(|error| error.to_string())?;
        if checkpoint.log() == receipt.signer() && proof.index == entry.sequence {
            Ok(())
        } else {
            Err("it stands in another log, or at another place".to_owned())
        }
    }
}

fn missing_or_right(count: usize, what: &str) -> Finding {
    if count == 0 {
        Finding::Right
    } else {
        Finding::Missing(format!("{count} {what}"))
    }
}

fn root_of(results: &[UnitResult]) -> Hash {
    merkle::root(
        results
            .iter()
            .map(|result| merkle::leaf_hash(&result.leaf())),
    )
}

/// Statements as base64, for files that people look at.
mod base64 {
    use super::{BASE64, Deserialize, Deserializer, Serializer, Signed, Statement};

    pub(super) fn serialize<T: Statement, S: Serializer>(
        signed: &Signed<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(signed.as_bytes()))
    }

    pub(super) fn deserialize<'de, T: Statement, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Signed<T>, D::Error> {
        super::decoded(&String::deserialize(deserializer)?)
    }
}

/// The same, where there may be none.
mod base64_or_none {
    use super::{BASE64, Deserialize, Deserializer, Serialize, Serializer, Signed, Statement};

    pub(super) fn serialize<T: Statement, S: Serializer>(
        signed: &Option<Signed<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = signed
            .as_ref()
            .map(|signed| BASE64.encode(signed.as_bytes()));
        text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Statement, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Signed<T>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::decoded(&text)).transpose()
    }
}

/// Bytes that are text where people read them, and bytes where they do not.
mod bytes_as_base64 {
    use serde::de::Error as _;

    use super::{BASE64, Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&BASE64.encode(bytes))
        } else {
            serializer.serialize_bytes(bytes)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            BASE64.decode(text.as_bytes()).map_err(D::Error::custom)
        } else {
            serde_bytes::ByteBuf::deserialize(deserializer).map(serde_bytes::ByteBuf::into_vec)
        }
    }
}

fn decoded<T: Statement, E: serde::de::Error>(text: &str) -> Result<Signed<T>, E> {
    let bytes = BASE64.decode(text.as_bytes()).map_err(E::custom)?;
    Ok(Signed::from_bytes(bytes))
}
