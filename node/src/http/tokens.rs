//! Bearer tokens: who may ask what over HTTP.
//!
//! A token is 32 random bytes as text, shown once. What is kept is its SHA-256, in a row of the app server's store with
//! the name by which it is listed and revoked: whoever reads the store cannot ask in anybody's name.
//!
//! Invariants: what is in memory is in the store; a token that was revoked is taken by no request that begins after
//! [`Tokens::revoke`] has returned.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tally_ledger::store::{ReadError, Row, Store};
use tally_protocol::codec;
use tally_protocol::id::NodeId;
use tally_protocol::issuer::is_line;
use tally_protocol::time::Timestamp;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::app_server::{Desk, DeskError};
use crate::clock;

/// The most tokens: one for each of many users. All are in memory, some 200 bytes each.
pub const TOKENS_MAX: usize = 100_000;
/// The longest name of a token, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Rows of tokens in the store: this byte, the name, a zero.
const ROW: u8 = b't';
/// What every token starts with, so that people and scanners of secrets know one when they see it.
const PREFIX: &str = "tally-";
/// The longest row, in bytes.
const ROW_BYTES_MAX: usize = 512;
/// By how much of its hash a token is looked up; the rest is compared in constant time. How long the look-up takes says
/// something about a hash that nobody can choose, and nothing about the token.
const LOOK_UP_BYTES: usize = 8;

/// Who may ask what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Bearer {
    /// Whoever runs the app server: sees all, orders for everybody, takes payments.
    Operator,
    /// A shop: uses vouchers, and nothing else.
    Shop,
    /// Someone with points: sees and orders what is its own.
    User {
        /// The key that the points belong to.
        owner: NodeId,
    },
}

/// A token as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenShown {
    /// Its name.
    pub name: String,
    /// Who may ask with it.
    #[serde(flatten)]
    pub bearer: Bearer,
    /// When it was made.
    pub created: Timestamp,
}

/// Someone who has shown a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// The name of the token.
    pub name: String,
    /// Who it is.
    pub bearer: Bearer,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    #[serde(with = "serde_bytes")]
    hash: [u8; 32],
    bearer: Bearer,
    created: Timestamp,
}

/// A token by its hash.
#[derive(Debug, Clone)]
struct Known {
    name: String,
    bearer: Bearer,
    created: Timestamp,
}

/// The tokens of an app server. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Tokens(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    desk: Desk,
    of: RwLock<BTreeMap<[u8; 32], Known>>,
    /// Held while one is made or revoked: no two changes of a row are in one group.
    change: Mutex<()>,
}

/// Why a token is not made or revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// A name is one line.
    #[error("name a token: 1 to {NAME_BYTES_MAX} bytes without control characters")]
    Name,
    /// There is one of that name.
    #[error("make the token {0}: there is one of that name")]
    Exists(String),
    /// There is none of that name.
    #[error("revoke the token {0}: there is none of that name")]
    Unknown(String),
    /// There are too many.
    #[error("make a token: there are {TOKENS_MAX}")]
    Full,
    /// The app server does not write it.
    #[error(transparent)]
    Desk(#[from] DeskError),
}

impl TokenError {
    /// Returns the word for programs, and what to do next.
    #[must_use]
    pub const fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Name => ("usage", "choose another name"),
            Self::Exists(_) => ("exists", "revoke it first, or choose another name"),
            Self::Unknown(_) => ("unknown_token", "`tally app token list` shows all"),
            Self::Full => ("full", "revoke those that nobody needs"),
            Self::Desk(_) => ("stopping", "start the node again"),
        }
    }
}

/// A new token: shown once and kept nowhere.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Returns the text that the bearer shows.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Tokens {
    /// Reads the tokens of a store; `desk` writes those to come.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn load(store: &Store, desk: Desk) -> Result<Self, ReadError> {
        let mut of = BTreeMap::new();
        for row in store.rows(&[ROW])? {
            let Row { key, value } = row?;
            let stored: Stored = codec::from_bytes(&value, ROW_BYTES_MAX)?;
            let name = key.get(1..key.len().saturating_sub(1)).unwrap_or_default();
            let known = Known {
                name: String::from_utf8_lossy(name).into_owned(),
                bearer: stored.bearer,
                created: stored.created,
            };
            of.insert(stored.hash, known);
        }
        Ok(Self(Arc::new(Inner {
            desk,
            of: RwLock::new(of),
            change: Mutex::new(()),
        })))
    }

    /// Makes a token.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn create(&self, name: &str, bearer: Bearer) -> Result<Secret, TokenError> {
        let _held = self.0.change.lock().await;
        if !is_line(name, NAME_BYTES_MAX) {
            return Err(TokenError::Name);
        }
        if self.hash_of(name).is_some() {
            return Err(TokenError::Exists(name.to_owned()));
        }
        if self.read(BTreeMap::len) >= TOKENS_MAX {
            return Err(TokenError::Full);
        }
        let drawn: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
        let secret = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&*drawn));
        let secret = Secret(Zeroizing::new(secret));
        let (hash, created) = (hash(secret.text()), clock::now());
        let stored = Stored {
            hash,
            bearer: bearer.clone(),
            created,
        };
        let row = Row {
            key: row_key(name),
            value: codec::to_bytes(&stored),
        };
        self.0.desk.keep(vec![row], Vec::new()).await?;
        let known = Known {
            name: name.to_owned(),
            bearer,
            created,
        };
        self.write(|of| drop(of.insert(hash, known)));
        Ok(secret)
    }

    /// Revokes the token of that name.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn revoke(&self, name: &str) -> Result<(), TokenError> {
        let _held = self.0.change.lock().await;
        let unknown = || TokenError::Unknown(name.to_owned());
        let hash = self.hash_of(name).ok_or_else(unknown)?;
        self.0.desk.keep(Vec::new(), vec![row_key(name)]).await?;
        self.write(|of| drop(of.remove(&hash)));
        Ok(())
    }

    /// Returns all tokens by name.
    #[must_use]
    pub fn list(&self) -> Vec<TokenShown> {
        let shown = |known: &Known| TokenShown {
            name: known.name.clone(),
            bearer: known.bearer.clone(),
            created: known.created,
        };
        let mut all: Vec<TokenShown> = self.read(|of| of.values().map(shown).collect());
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Returns who shows this token; none if nobody has it.
    #[must_use]
    pub fn asker(&self, token: &str) -> Option<Asker> {
        let shown = hash(token);
        let (mut first, mut last) = (shown, shown);
        first[LOOK_UP_BYTES..].fill(0);
        last[LOOK_UP_BYTES..].fill(0xff);
        self.read(|of| {
            let mut near = of.range(first..=last);
            let (_, known) = near.find(|(hash, _)| bool::from(hash.ct_eq(&shown)))?;
            Some(Asker {
                name: known.name.clone(),
                bearer: known.bearer.clone(),
            })
        })
    }

    fn hash_of(&self, name: &str) -> Option<[u8; 32]> {
        self.read(|of| {
            let mut all = of.iter();
            let (hash, _) = all.find(|(_, known)| known.name == name)?;
            Some(*hash)
        })
    }

    fn read<T>(&self, read: impl FnOnce(&BTreeMap<[u8; 32], Known>) -> T) -> T {
        read(&self.0.of.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, write: impl FnOnce(&mut BTreeMap<[u8; 32], Known>)) {
        write(&mut self.0.of.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Asker {
    /// Returns whether it may see what belongs to `owner`.
    #[must_use]
    pub fn sees(&self, owner: NodeId) -> bool {
        match self.bearer {
            Bearer::Operator => true,
            Bearer::Shop => false,
            Bearer::User { owner: own } => own == owner,
        }
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The zero ends the name: rows are removed by what their keys start with.
fn row_key(name: &str) -> Vec<u8> {
    let mut key = vec![ROW];
    key.extend(name.as_bytes());
    key.push(0);
    key
}
