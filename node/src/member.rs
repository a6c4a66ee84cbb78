//! A computer and its app servers, as its owner uses them: it enrols, orders for points, keeps licenses.
//!
//! Everything goes over a [`Line`]: the node of this folder if it runs, else a network for the time of one command. What
//! must survive is in one file for each app server, a [`Membership`]; what was bought is text under `licenses` and
//! `vouchers`, and what an application reads lies in its folder under `applications`.
//!
//! - [`enrolling`]: what is offered, and the consent to it; [`bundle`]: the user application
//! - [`ordering`]: orders; [`spending`]: the points that pay for them
//! - [`shelf`]: licenses, judged by the root that was pinned at the enrolment
//! - [`steward`]: the task of a running terminal that keeps all of this fresh, and works towards its goal
//!
//! Invariants: an order has one idempotency key and one set of signed redeems, both written before they are sent, so that
//! whoever goes on after a crash, command or node, goes on with the same order; nothing that an app server says is kept
//! unless its signatures hold; a registration that was revoked is not asked for again but by the owner.

pub mod bundle;
pub mod enrolling;
pub mod kept;
pub mod line;
pub mod ordering;
pub mod settings;
pub mod shelf;
pub mod spending;
pub mod steward;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use tally_protocol::account::Holder;
use tally_protocol::app_server::Fault;
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::id::{LicenseId, NetworkId, NodeId};
use tally_protocol::license::DeviceProof;
use tally_protocol::message::Refusal;
use tally_protocol::signed::{Signed, Verified, VerifyError};

use crate::certificates::{self, Certified};
use crate::clock;
use crate::folder::Folder;
use crate::keys;

pub use kept::{Membership, Memberships};
pub use line::{Contact, Line};

/// Why something with an app server does not come about.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// It is not reached, or does not answer; the text says how.
    #[error("reach the app server {0}: {1}")]
    Unreached(NodeId, String),
    /// It says why not.
    #[error("have the app server do it: {0}")]
    Fault(Fault),
    /// It says no.
    #[error("have the app server do it: {0}")]
    Refused(Refusal),
    /// It answers something that does not belong here, or is not true.
    #[error("accept the answer of the app server: {0}")]
    Answer(String),
    /// A signature does not hold.
    #[error("accept the answer of the app server")]
    Unverified(#[from] VerifyError),
    /// This computer is not registered for that.
    #[error("find where this computer is registered for {0}")]
    NotRegistered(String),
    /// This computer has not the key, or not the leave, to spend the owner's points.
    #[error("spend points of {owner}: {why}")]
    MayNot {
        /// Whose points.
        owner: NodeId,
        /// Why not.
        why: String,
    },
    /// There are not enough points.
    #[error("pay with points alone: they are worth {worth} of {price}")]
    TooFew {
        /// What there is.
        worth: String,
        /// What is needed.
        price: String,
    },
    /// Nothing came of an order; the text says why.
    #[error("complete the order: {0}")]
    Void(String),
    /// What was delivered is not what it should be, or there is no room for it.
    #[error("unpack the application: {0}")]
    Bundle(String),
    /// The disk says no.
    #[error("use {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of this folder makes no sense.
    #[error("read {path}: {why}")]
    Kept {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl MemberError {
    /// Returns what to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Unreached(..) => {
                "see whether it runs and this computer is online; what was begun goes on when the command is repeated"
            }
            Self::Fault(fault) => fault.hint(),
            Self::Refused(_) => "try again later; its operator may know more",
            Self::Answer(_) | Self::Unverified(_) => {
                "it is of another version, or not to be trusted: ask who gave you the invitation"
            }
            Self::NotRegistered(_) => {
                "`tally enroll INVITE` registers it; the product's name is in the invitation"
            }
            Self::MayNot { .. } => {
                "name the owner's key with --owner-key, or let the computer redeem points with `tally key certify \
                 --redeem-points`"
            }
            Self::TooFew { .. } => "let the computer work longer, or pay the rest with money",
            Self::Void(_) => {
                "nothing was taken, or it is given back; the command again opens a new order"
            }
            Self::Bundle(_) => "tell its vendor; nothing of it was kept",
            Self::Io { .. } => "look at the disk and at who owns the data folder",
            Self::Kept { .. } => "restore the file from a backup, or remove it and enrol again",
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }
}

/// The computer of a folder towards its app servers.
#[derive(Debug, Clone)]
pub struct Member {
    folder: Folder,
    network: NetworkId,
    key: SigningKey,
    memberships: Memberships,
}

impl Member {
    /// Returns the computer with this key.
    #[must_use]
    pub fn new(folder: &Folder, network: NetworkId, key: SigningKey) -> Self {
        Self {
            memberships: Memberships::new(folder, keys::node_id(&key)),
            folder: folder.clone(),
            network,
            key,
        }
    }

    /// Returns its id.
    #[must_use]
    pub const fn me(&self) -> NodeId {
        self.memberships.device()
    }

    /// Returns its network.
    #[must_use]
    pub const fn network(&self) -> &NetworkId {
        &self.network
    }

    /// Returns its data folder.
    #[must_use]
    pub const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Returns where it is registered.
    #[must_use]
    pub const fn memberships(&self) -> &Memberships {
        &self.memberships
    }

    /// Returns for whom it earns, with what says so; itself if there is no certificate that counts.
    ///
    /// # Errors
    /// [`MemberError::Kept`] if the certificate cannot be read.
    pub fn holder(&self) -> Result<(Holder, Option<Verified<DeviceCertificate>>), MemberError> {
        let (path, me) = (self.folder.certificate(), self.me());
        let read = certificates::read(&path, &self.network);
        let read = read.map_err(|error| MemberError::Kept {
            path,
            why: crate::error::chain(&error),
        })?;
        let counts = |shown: &Verified<DeviceCertificate>| {
            !matches!(
                certificates::standing(shown, me, clock::now()),
                Certified::Not(_)
            )
        };
        Ok(match read.filter(counts) {
            Some(certificate) => {
                let owner = certificate.signer();
                (Holder { owner, device: me }, Some(certificate))
            }
            None => (Holder::alone(me), None),
        })
    }

    /// Answers the challenge of an application.
    #[must_use]
    pub fn prove(&self, license: LicenseId, nonce: [u8; 32]) -> Signed<DeviceProof> {
        prove(&self.key, &self.network, license, nonce)
    }
}

/// Signs that this computer has its key at this moment.
#[must_use]
pub fn prove(
    key: &SigningKey,
    network: &NetworkId,
    license: LicenseId,
    nonce: [u8; 32],
) -> Signed<DeviceProof> {
    let at = clock::now();
    let proof = DeviceProof { license, nonce, at };
    Verified::sign(proof, network, key).signed().clone()
}
