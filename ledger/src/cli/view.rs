//! Entries as they are told: short in a list, whole when shown; and whom they are about.

mod detail;
mod parties;
mod partners;
mod row;

pub use detail::{Checking, EntryDetail, EventDetail, Says, Statement};
pub(crate) use parties::Parties;
pub use partners::{
    AgreementSummary, RedeemSummary, RedemptionDetail, RedemptionSummary, RegistrationDetail,
    RegistrationSummary, SettlementSummary,
};
pub use row::{Certified, EntryRow, EventRow, ReceiptSummary, TaskSummary};
