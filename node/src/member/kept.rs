//! What a computer keeps of each app server: one file, written as a whole.
//!
//! `memberships/ID`, where ID is the app server, holds the CBOR of a [`Membership`]. A command and the running node may
//! change it at the same time: each change is made under a lock, on what the file says then.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use tally_protocol::app_server::{IdempotencyKey, Product, Wish};
use tally_protocol::codec;
use tally_protocol::id::{NetworkId, NodeId, OrderId};
use tally_protocol::message::enroll::PointsShown;
use tally_protocol::product::ProductId;
use tally_protocol::registration::{self, Registration};
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::time::Timestamp;

use super::MemberError;
use crate::folder::{self, Folder};

/// The layout of the file.
const FORMAT: u32 = 1;
/// The longest file, in bytes: a thousand applications and orders.
const BYTES_MAX: u64 = 16 << 20;
/// The most orders under way at one app server: more than it lets an owner open.
const ORDERS_MAX: usize = 1_024;

/// What a computer keeps of an app server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// [`FORMAT`].
    format: u32,
    /// The app server.
    pub app_server: NodeId,
    /// Where it is reached.
    pub addresses: Vec<String>,
    /// The vendor's name, as its root key said at the enrolment.
    pub vendor: String,
    /// The vendor's root key: pinned at the enrolment.
    pub root: NodeId,
    /// The newest registration.
    pub registration: Signed<Registration>,
    /// Since when the app server does not know the computer any more; none while it does.
    pub ended: Option<Timestamp>,
    /// The products that the computer was ever enrolled for, as they were offered.
    pub applications: BTreeMap<ProductId, Product>,
    /// Orders under way, by what they are for.
    pub orders: BTreeMap<String, Pending>,
    /// Orders that came to nothing or to an end, by what they were for: the next one needs another key.
    pub attempts: BTreeMap<String, u32>,
    /// The latest time known, by which a clock that was set back is noticed.
    pub seen: Timestamp,
}

/// An order under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// What is ordered.
    pub wish: Wish,
    /// By which the app server knows it again.
    pub key: IdempotencyKey,
    /// Its name, once the app server has said it.
    pub order: Option<OrderId>,
    /// The points that pay for it, as they were signed.
    pub points: Vec<PointsShown>,
}

/// What a new membership is made of.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The app server.
    pub app_server: NodeId,
    /// Where it is reached.
    pub addresses: Vec<String>,
    /// The vendor's name.
    pub vendor: String,
    /// Its root key.
    pub root: NodeId,
    /// The registration.
    pub registration: Signed<Registration>,
    /// What it is for.
    pub product: Product,
}

impl Membership {
    /// Returns the membership that a first enrolment makes.
    #[must_use]
    pub fn new(joined: Joined) -> Self {
        Self {
            format: FORMAT,
            app_server: joined.app_server,
            addresses: joined.addresses,
            vendor: joined.vendor,
            root: joined.root,
            registration: joined.registration,
            ended: None,
            applications: BTreeMap::from([(joined.product.id.clone(), joined.product)]),
            orders: BTreeMap::new(),
            attempts: BTreeMap::new(),
            seen: Timestamp::default(),
        }
    }

    /// Takes a further enrolment. The pinned root stays unless the owner pins another.
    pub fn enrol_again(&mut self, joined: Joined) {
        let product = joined.product;
        self.addresses = joined.addresses;
        self.vendor = joined.vendor;
        self.root = joined.root;
        self.registration = joined.registration;
        self.ended = None;
        self.applications.insert(product.id.clone(), product);
    }

    /// Returns the registration.
    ///
    /// # Errors
    /// [`MemberError::Answer`] if it is not the app server's for this computer: it was checked before it was kept.
    pub fn registration(
        &self,
        network: &NetworkId,
        device: NodeId,
    ) -> Result<Verified<Registration>, MemberError> {
        checked_registration(
            self.registration.clone(),
            network,
            (self.app_server, device),
        )
    }

    /// Returns the product that the computer works for.
    #[must_use]
    pub fn has(&self, product: &ProductId) -> bool {
        self.applications.contains_key(product)
    }

    /// Begins an order, or finds the one that is under way for the same thing.
    pub fn begin(
        &mut self,
        name: &str,
        wish: &Wish,
        key: impl FnOnce(u32) -> IdempotencyKey,
    ) -> Pending {
        if self.orders.len() >= ORDERS_MAX
            && !self.orders.contains_key(name)
            && let Some(oldest) = self.orders.keys().next().cloned()
        {
            self.orders.remove(&oldest);
        }
        let attempt = self.attempts.get(name).copied().unwrap_or_default();
        let new = || Pending {
            wish: wish.clone(),
            key: key(attempt),
            order: None,
            points: Vec::new(),
        };
        self.orders
            .entry(name.to_owned())
            .or_insert_with(new)
            .clone()
    }

    /// Ends the order that was begun with a key: the next one for the same thing is another one. Nothing is done if another
    /// process has ended it, and may have begun the next one.
    pub fn end(&mut self, name: &str, key: &IdempotencyKey) {
        if self.orders.get(name).is_none_or(|of| of.key != *key) {
            return;
        }
        self.orders.remove(name);
        let attempts = self.attempts.entry(name.to_owned()).or_default();
        *attempts = attempts.saturating_add(1);
    }
}

/// Checks a registration down to the word of this computer.
///
/// # Errors
/// [`MemberError`] if it is not the app server's, or not for this computer.
pub fn checked_registration(
    signed: Signed<Registration>,
    network: &NetworkId,
    (app_server, device): (NodeId, NodeId),
) -> Result<Verified<Registration>, MemberError> {
    let registration = signed.verify(network)?;
    registration::check(&registration, network)
        .map_err(|fault| MemberError::Answer(fault.to_string()))?;
    if registration.signer() != app_server || registration.holder.device != device {
        let why = "the registration is another's".to_owned();
        return Err(MemberError::Answer(why));
    }
    Ok(registration)
}

/// The memberships of a folder.
#[derive(Debug, Clone)]
pub struct Memberships {
    folder: PathBuf,
    device: NodeId,
}

impl Memberships {
    /// Returns the memberships of the computer of a folder.
    #[must_use]
    pub fn new(folder: &Folder, device: NodeId) -> Self {
        let folder = folder.memberships();
        Self { folder, device }
    }

    pub(super) const fn device(&self) -> NodeId {
        self.device
    }

    /// Returns all, by app server.
    ///
    /// # Errors
    /// [`MemberError`] if one cannot be read.
    pub fn all(&self) -> Result<Vec<Membership>, MemberError> {
        let mut found = Vec::new();
        let listed = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            listed => listed.map_err(MemberError::io(&self.folder))?,
        };
        for file in listed {
            let name = file.map_err(MemberError::io(&self.folder))?.file_name();
            let id = name.to_str().and_then(|name| name.parse::<NodeId>().ok());
            if let Some(app_server) = id
                && let Some(membership) = self.of(app_server)?
            {
                found.push(membership);
            }
        }
        found.sort_by_key(|membership| membership.app_server);
        Ok(found)
    }

    /// Returns the membership at an app server.
    ///
    /// # Errors
    /// [`MemberError`] if it cannot be read.
    pub fn of(&self, app_server: NodeId) -> Result<Option<Membership>, MemberError> {
        let path = self.folder.join(app_server.to_string());
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(known) if known.len() <= BYTES_MAX => {}
            Ok(_) => {
                let why = format!("it has more than {BYTES_MAX} bytes");
                return Err(MemberError::Kept { path, why });
            }
            Err(source) => return Err(MemberError::Io { path, source }),
        }
        let bytes = fs::read(&path).map_err(MemberError::io(&path))?;
        let read = codec::from_bytes::<Membership>(&bytes, bytes.len());
        let why = match read {
            Ok(read) if read.format == FORMAT && read.app_server == app_server => {
                return Ok(Some(read));
            }
            Ok(read) => format!("format {} of {}", read.format, read.app_server),
            Err(error) => crate::error::chain(&error),
        };
        Err(MemberError::Kept { path, why })
    }

    /// Returns the membership by which the computer has a product; the one it works for first.
    ///
    /// # Errors
    /// [`MemberError::NotRegistered`] if there is none.
    pub fn having(&self, product: &ProductId) -> Result<Membership, MemberError> {
        let having = self.all()?.into_iter().filter(|known| known.has(product));
        having
            .min_by_key(|known| (known.ended.is_some(), known.app_server))
            .ok_or_else(|| MemberError::NotRegistered(product.to_string()))
    }

    /// Changes a membership, under the lock; makes it if `change` gives one where there was none.
    ///
    /// # Errors
    /// [`MemberError`] if it cannot be read or written. Nothing is changed then.
    pub fn change<T>(
        &self,
        app_server: NodeId,
        change: impl FnOnce(&mut Option<Membership>) -> T,
    ) -> Result<T, MemberError> {
        let _lock = self.lock()?;
        let before = self.of(app_server)?;
        let mut after = before.clone();
        let result = change(&mut after);
        if let Some(after) = after.filter(|after| Some(after) != before.as_ref()) {
            let path = self.folder.join(app_server.to_string());
            folder::write_whole(&path, &codec::to_bytes(&after)).map_err(MemberError::io(&path))?;
        }
        Ok(result)
    }

    /// Changes a membership that is there.
    ///
    /// # Errors
    /// [`MemberError`] if it is not, or cannot be read or written.
    pub fn update<T>(
        &self,
        app_server: NodeId,
        update: impl FnOnce(&mut Membership) -> T,
    ) -> Result<T, MemberError> {
        let updated = self.change(app_server, |known| known.as_mut().map(update))?;
        updated.ok_or_else(|| MemberError::NotRegistered(app_server.to_string()))
    }

    fn lock(&self) -> Result<File, MemberError> {
        fs::create_dir_all(&self.folder).map_err(MemberError::io(&self.folder))?;
        let path = self.folder.join("lock");
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = opened.map_err(MemberError::io(&path))?;
        // Held for one small file: whoever waits here waits for milliseconds.
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| MemberError::io(&path)(error.into()))?;
        Ok(file)
    }
}
