//! Double entry: transfers between accounts, and the balances they add up to.
//!
//! A [`Posting`] is a group of [`Transfer`]s that happen together or not at all. Transfers are only ever made: what was
//! wrong is put right by another one. Each takes an amount from one account and gives it to another, so every posting
//! adds up to zero. A transfer may be made in two phases: a hold sets an amount aside, later transfers post parts of it,
//! and what is left is given back (void), at the latest when its time is over (expire).
//!
//! Invariants: no account but the two sources goes below zero, what is held not counted as there; points and money never
//! stand on one account; of each commodity all credits together equal all debits. A posting that breaks one of them
//! changes nothing.

#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::account::{Account, Commodity};
use crate::id::PostingId;
use crate::time::Timestamp;

/// The most transfers of one posting.
pub const TRANSFERS_MAX: usize = 1_024;

/// Transfers that happen together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// Its name: the same event has the same id, so that nothing is posted twice.
    pub id: PostingId,
    /// The transfers, in order: each must be possible after those before it.
    pub transfers: Vec<Transfer>,
}

/// An amount that goes from one account to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// The account that is debited.
    pub from: Account,
    /// The account that is credited.
    pub to: Account,
    /// What.
    pub commodity: Commodity,
    /// How much, above zero: micro-points, or minor units of the currency.
    pub amount: u64,
    /// At once, or in two phases.
    pub step: Step,
}

/// How a transfer takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// At once.
    Move,
    /// The amount is set aside; the posting's id is the name of the hold.
    Hold {
        /// When what is left of it may expire.
        until: Timestamp,
    },
    /// A part of a hold, or all that is left of it, is transferred.
    Post(PostingId),
    /// All that is left of a hold is free again.
    Void(PostingId),
    /// The same, because its time is over.
    Expire(PostingId),
}

/// What stands on an account. All amounts only grow, but for what is pending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// All that was taken.
    pub debits: u64,
    /// All that was given.
    pub credits: u64,
    /// What is held to be taken.
    pub pending_debits: u64,
    /// What is held to be given.
    pub pending_credits: u64,
}

impl Balance {
    /// Returns what was given less what was taken.
    #[must_use]
    pub fn posted(&self) -> i128 {
        i128::from(self.credits).saturating_sub(i128::from(self.debits))
    }

    /// Returns what can be taken: what is posted, less what is held.
    #[must_use]
    pub fn available(&self) -> i128 {
        self.posted()
            .saturating_sub(i128::from(self.pending_debits))
    }

    /// Returns whether nothing stands here and nothing is held.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.debits == self.credits && self.pending_debits == 0 && self.pending_credits == 0
    }
}

/// What is left of an amount that was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// From where.
    pub from: Account,
    /// For where.
    pub to: Account,
    /// What.
    pub commodity: Commodity,
    /// How much is left.
    pub left: u64,
    /// When it may expire.
    pub until: Timestamp,
}

/// Why a posting is not possible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum PostingFault {
    /// It has no transfer, or too many.
    #[error("a posting has 1 to {TRANSFERS_MAX} transfers, this one has {count}")]
    Count {
        /// How many.
        count: usize,
    },
    /// A transfer of nothing, or from an account to itself.
    #[error("a transfer of {amount} from {from} transfers nothing")]
    Nothing {
        /// From where.
        from: Box<Account>,
        /// How much.
        amount: u64,
    },
    /// The account is for another kind.
    #[error("{account} does not take {commodity}")]
    Mixed {
        /// The account.
        account: Box<Account>,
        /// What was to stand there.
        commodity: Commodity,
    },
    /// More is taken than is there.
    #[error("{account} has {} {commodity}, {} are needed", commodity.show(*available), commodity.show(i128::from(*needed)))]
    Overdraft {
        /// The account.
        account: Box<Account>,
        /// What.
        commodity: Commodity,
        /// What it has.
        available: i128,
        /// What was to be taken.
        needed: u64,
    },
    /// The sums do not fit.
    #[error("the sums of {account} are too large")]
    Overflow {
        /// The account.
        account: Box<Account>,
    },
    /// The posting holds twice, or another hold has its name.
    #[error("there is a hold {id} already")]
    HoldTaken {
        /// The hold.
        id: PostingId,
    },
    /// Nothing is held under this name.
    #[error("there is no hold {id}")]
    NoHold {
        /// The hold.
        id: PostingId,
    },
    /// The hold is for other accounts, or for less.
    #[error("hold {id} is not for this transfer: {left} are left of it")]
    OtherHold {
        /// The hold.
        id: PostingId,
        /// What is left of it.
        left: u64,
    },
    /// The hold has not expired.
    #[error("hold {id} is not over before {until}")]
    NotOver {
        /// The hold.
        id: PostingId,
        /// When it is.
        until: Timestamp,
    },
}

/// One line of the books: an account and what is counted on it.
pub type Line = (Account, Commodity);

/// The balances of all accounts, or of those that somebody looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    balances: BTreeMap<Line, Balance>,
    holds: BTreeMap<PostingId, Hold>,
}

impl Books {
    /// Takes balances and holds that were read from where they are kept.
    #[must_use]
    pub fn from_parts(
        balances: impl IntoIterator<Item = (Line, Balance)>,
        holds: impl IntoIterator<Item = (PostingId, Hold)>,
    ) -> Self {
        Self {
            balances: balances.into_iter().collect(),
            holds: holds.into_iter().collect(),
        }
    }

    /// Returns what stands on an account.
    #[must_use]
    pub fn balance(&self, account: Account, commodity: Commodity) -> Balance {
        let line = (account, commodity);
        self.balances.get(&line).copied().unwrap_or_default()
    }

    /// Returns the lines on which something stands or stood, in the order of the accounts.
    pub fn balances(&self) -> impl Iterator<Item = (&Line, &Balance)> {
        self.balances.iter()
    }

    /// Returns the lines of a range of accounts, in their order.
    pub fn range(
        &self,
        lines: impl std::ops::RangeBounds<Line>,
    ) -> impl DoubleEndedIterator<Item = (&Line, &Balance)> {
        self.balances.range(lines)
    }

    /// Returns a hold of which something is left.
    #[must_use]
    pub fn hold(&self, id: PostingId) -> Option<&Hold> {
        self.holds.get(&id)
    }

    /// Returns all holds of which something is left.
    pub fn holds(&self) -> impl Iterator<Item = (&PostingId, &Hold)> {
        self.holds.iter()
    }

    /// Returns the books of what a posting may change, to see what it would do.
    #[must_use]
    pub fn excerpt(&self, posting: &Posting) -> Self {
        let (lines, holds) = posting.touched();
        let balances = lines
            .iter()
            .filter_map(|line| Some((*line, *self.balances.get(line)?)));
        let holds = holds
            .iter()
            .filter_map(|id| Some((*id, *self.holds.get(id)?)));
        Self::from_parts(balances, holds)
    }

    /// Makes the transfers of a posting, all or none. `at` is the time of its entry.
    ///
    /// # Errors
    /// [`PostingFault`], for the first transfer that is not possible; then nothing has changed.
    pub fn post(&mut self, at: Timestamp, posting: &Posting) -> Result<(), PostingFault> {
        let count = posting.transfers.len();
        if !(1..=TRANSFERS_MAX).contains(&count) {
            return Err(PostingFault::Count { count });
        }
        let (lines, holds) = posting.touched();
        let lines = lines
            .into_iter()
            .map(|line| (line, self.balances.get(&line).copied()));
        let holds = holds
            .into_iter()
            .map(|id| (id, self.holds.get(&id).copied()));
        let (lines, holds): (Vec<_>, Vec<_>) = (lines.collect(), holds.collect());
        let done = posting
            .transfers
            .iter()
            .try_for_each(|transfer| self.transfer(at, posting.id, transfer));
        if done.is_err() {
            for (line, before) in lines {
                restore(&mut self.balances, line, before);
            }
            for (id, before) in holds {
                restore(&mut self.holds, id, before);
            }
        }
        done
    }

    fn transfer(
        &mut self,
        at: Timestamp,
        posting: PostingId,
        transfer: &Transfer,
    ) -> Result<(), PostingFault> {
        let Transfer {
            from,
            to,
            commodity,
            amount,
            step,
        } = *transfer;
        if amount == 0 || from == to {
            let from = Box::new(from);
            return Err(PostingFault::Nothing { from, amount });
        }
        if let Some(account) = [from, to]
            .into_iter()
            .find(|account| !account.takes(commodity))
        {
            let account = Box::new(account);
            return Err(PostingFault::Mixed { account, commodity });
        }
        match step {
            Step::Move => {
                self.take(transfer)?;
                self.change(transfer, |from, to| {
                    from.debits = from.debits.checked_add(amount)?;
                    to.credits = to.credits.checked_add(amount)?;
                    Some(())
                })
            }
            Step::Hold { until } => {
                self.take(transfer)?;
                let hold = Hold {
                    from,
                    to,
                    commodity,
                    left: amount,
                    until,
                };
                if self.holds.insert(posting, hold).is_some() {
                    return Err(PostingFault::HoldTaken { id: posting });
                }
                self.change(transfer, |from, to| {
                    from.pending_debits = from.pending_debits.checked_add(amount)?;
                    to.pending_credits = to.pending_credits.checked_add(amount)?;
                    Some(())
                })
            }
            Step::Post(id) => {
                self.use_hold(id, transfer)?;
                self.change(transfer, |from, to| {
                    from.pending_debits = from.pending_debits.checked_sub(amount)?;
                    to.pending_credits = to.pending_credits.checked_sub(amount)?;
                    from.debits = from.debits.checked_add(amount)?;
                    to.credits = to.credits.checked_add(amount)?;
                    Some(())
                })
            }
            Step::Void(id) | Step::Expire(id) => {
                self.check_end(at, id, transfer)?;
                self.use_hold(id, transfer)?;
                self.change(transfer, |from, to| {
                    from.pending_debits = from.pending_debits.checked_sub(amount)?;
                    to.pending_credits = to.pending_credits.checked_sub(amount)?;
                    Some(())
                })
            }
        }
    }

    /// Checks that a transfer ends a hold as a whole, and not too early.
    fn check_end(
        &self,
        at: Timestamp,
        id: PostingId,
        transfer: &Transfer,
    ) -> Result<(), PostingFault> {
        let hold = self.holds.get(&id).ok_or(PostingFault::NoHold { id })?;
        let (left, until) = (hold.left, hold.until);
        if left != transfer.amount {
            return Err(PostingFault::OtherHold { id, left });
        }
        if matches!(transfer.step, Step::Expire(_)) && at < until {
            return Err(PostingFault::NotOver { id, until });
        }
        Ok(())
    }

    /// Checks that the account has what is taken from it.
    fn take(&self, transfer: &Transfer) -> Result<(), PostingFault> {
        let Transfer {
            from: account,
            commodity,
            amount: needed,
            ..
        } = *transfer;
        let available = self.balance(account, commodity).available();
        if account.is_source() || available >= i128::from(needed) {
            return Ok(());
        }
        Err(PostingFault::Overdraft {
            account: Box::new(account),
            commodity,
            available,
            needed,
        })
    }

    /// Takes the amount off its hold.
    fn use_hold(&mut self, id: PostingId, transfer: &Transfer) -> Result<(), PostingFault> {
        let hold = self.holds.get_mut(&id).ok_or(PostingFault::NoHold { id })?;
        let fits = (hold.from, hold.to, hold.commodity)
            == (transfer.from, transfer.to, transfer.commodity);
        match hold.left.checked_sub(transfer.amount) {
            Some(left) if fits => hold.left = left,
            _ => {
                return Err(PostingFault::OtherHold {
                    id,
                    left: hold.left,
                });
            }
        }
        if hold.left == 0 {
            self.holds.remove(&id);
        }
        Ok(())
    }

    fn change(
        &mut self,
        transfer: &Transfer,
        change: impl FnOnce(&mut Balance, &mut Balance) -> Option<()>,
    ) -> Result<(), PostingFault> {
        let Transfer {
            from,
            to,
            commodity,
            ..
        } = *transfer;
        let (mut debited, mut credited) =
            (self.balance(from, commodity), self.balance(to, commodity));
        change(&mut debited, &mut credited).ok_or(PostingFault::Overflow {
            account: Box::new(to),
        })?;
        for (account, balance) in [(from, debited), (to, credited)] {
            if account.is_transient() && balance.is_empty() {
                self.balances.remove(&(account, commodity));
            } else {
                self.balances.insert((account, commodity), balance);
            }
        }
        Ok(())
    }
}

/// Puts back what stood under a key, or nothing.
fn restore<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, before: Option<V>) {
    match before {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

impl Posting {
    /// Returns the lines and the holds that it may change.
    #[must_use]
    pub fn touched(&self) -> (Vec<Line>, Vec<PostingId>) {
        let lines = self.transfers.iter().flat_map(|transfer| {
            let Transfer {
                from,
                to,
                commodity,
                ..
            } = *transfer;
            [(from, commodity), (to, commodity)]
        });
        let holds = self
            .transfers
            .iter()
            .filter_map(|transfer| match transfer.step {
                Step::Move => None,
                Step::Hold { .. } => Some(self.id),
                Step::Post(hold) | Step::Void(hold) | Step::Expire(hold) => Some(hold),
            });
        (lines.collect(), holds.collect())
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            commodity,
            amount,
            ..
        } = self;
        let verb = match self.step {
            Step::Move => "move",
            Step::Hold { .. } => "hold",
            Step::Post(_) => "post",
            Step::Void(_) => "void",
            Step::Expire(_) => "expire",
        };
        write!(
            f,
            "{verb} {} {commodity}: {from} -> {to}",
            commodity.show(i128::from(*amount))
        )
    }
}
