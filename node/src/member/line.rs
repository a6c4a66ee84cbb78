//! The way to an app server: through the node of this folder if one runs, since no second process may use its key, else
//! over a network of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tally_protocol::app_server::{DiscountOffer, IdempotencyKey, OfferId, Product, Wish};
use tally_protocol::codec;
use tally_protocol::id::{BlobId, NodeId, OrderId};
use tally_protocol::license::StatusList;
use tally_protocol::message::enroll::{
    ENROLL_BYTES_MAX, EnrollReply, EnrollRequest, OrderShown, PointsShown,
};
use tally_protocol::product::ProductId;
use tally_protocol::purse::Purse;
use tally_protocol::registration::Registration;
use tally_protocol::signed::Signed;
use tally_protocol::task::BlobRef;
use tokio::sync::watch;

use super::MemberError;
use crate::admin::{self, Content, Request};
use crate::blobs::{self, BlobStore, Progress, StoreLimits};
use crate::config::Config;
use crate::error::chain;
use crate::folder::{Folder, FolderLock};
use crate::keys;
use crate::network::{Network, NetworkConfig, NetworkLimits};

/// The largest application that is downloaded, in bytes.
pub const BUNDLE_BYTES_MAX: u64 = 8 << 30;
/// How long one piece of a download through the running node may take before it says how far it is.
const PIECE: Duration = Duration::from_millis(500);

/// Where an app server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Which.
    pub app_server: NodeId,
    /// Its addresses.
    pub addresses: Vec<String>,
}

/// A way to app servers.
#[derive(Debug)]
pub enum Line {
    /// Through the node whose admin socket is here.
    Node(PathBuf),
    /// Over a network of this process.
    Own(Network, Option<FolderLock>),
}

impl Line {
    /// Opens the way for the key of a folder: through its node if that runs.
    ///
    /// # Errors
    /// [`MemberError`] if the overlay cannot be started or the node that runs is of another network.
    pub async fn open(folder: &Folder, config: &Config) -> Result<Self, MemberError> {
        let Ok(lock) = folder.lock() else {
            return Self::of_node(folder, config).await;
        };
        let path = folder.key();
        let unusable = |why: String| MemberError::Kept {
            path: path.clone(),
            why,
        };
        let key = keys::read(&path).map_err(|error| unusable(chain(&error)))?;
        let me = keys::node_id(&key);
        let started = Network::start(NetworkConfig {
            key,
            network: config.network.clone(),
            roles: Vec::new(),
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            mdns: false,
            saved_peers: None,
            limits: NetworkLimits::default(),
        });
        let (network, mut events) =
            started.map_err(|error| MemberError::Unreached(me, chain(&error)))?;
        // Nobody has anything to ask of a computer that plays no role.
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        Ok(Self::Own(network, Some(lock)))
    }

    async fn of_node(folder: &Folder, config: &Config) -> Result<Self, MemberError> {
        let socket = folder.socket();
        let status = admin::ask::<crate::node::operator::NodeStatus>(&socket, &Request::Status);
        let status = status.await.map_err(|error| MemberError::Kept {
            path: socket.clone(),
            why: chain(&error),
        })?;
        if status.network != config.network.as_str() {
            let (ours, its) = (&config.network, &status.network);
            return Err(MemberError::Kept {
                path: socket,
                why: format!("the node that runs here is in the network {its}, not in {ours}"),
            });
        }
        Ok(Self::Node(socket))
    }

    /// Ends the way.
    pub async fn close(self) {
        match self {
            Self::Node(_) => {}
            Self::Own(network, lock) => {
                network.shutdown().await;
                drop(lock);
            }
        }
    }

    /// Asks an app server.
    ///
    /// # Errors
    /// [`MemberError::Unreached`], or what it answers if that is no.
    pub async fn ask(
        &self,
        to: &Contact,
        request: EnrollRequest,
    ) -> Result<EnrollReply, MemberError> {
        let reply = match self {
            Self::Node(socket) => through(socket, to, &request).await?,
            Self::Own(network, _) => ask_over(network, to, request).await?,
        };
        match reply {
            EnrollReply::Not(fault) => Err(MemberError::Fault(fault)),
            EnrollReply::Refused(refusal) => Err(MemberError::Refused(refusal)),
            reply @ (EnrollReply::Catalogue(_)
            | EnrollReply::Product(_)
            | EnrollReply::Offer(_)
            | EnrollReply::Registered(_)
            | EnrollReply::Purse(_)
            | EnrollReply::Order(_)
            | EnrollReply::StatusList(_)) => Ok(reply),
        }
    }

    /// Brings an application into the downloads of a folder, going on where an earlier download ended.
    ///
    /// # Errors
    /// [`MemberError`] if the app server does not give it or the disk does not take it.
    pub async fn bring(
        &self,
        (folder, from): (&Folder, &Contact),
        blob: BlobRef,
        mut tell: impl FnMut(u64, u64) + Send,
    ) -> Result<PathBuf, MemberError> {
        if blob.bytes > BUNDLE_BYTES_MAX {
            let bytes = blob.bytes;
            let why = format!("it has {bytes} bytes, at most {BUNDLE_BYTES_MAX} are taken");
            return Err(MemberError::Bundle(why));
        }
        match self {
            Self::Node(socket) => loop {
                let (to, contact) = (from.app_server, from.clone());
                let request = Request::Bring { contact, blob };
                let asked = admin::ask::<Brought>(socket, &request).await;
                match asked.map_err(|error| MemberError::Unreached(to, chain(&error)))? {
                    Brought {
                        path: Some(path), ..
                    } => return Ok(path),
                    Brought { bytes, total, .. } => tell(bytes, total),
                }
            },
            Self::Own(network, _) => {
                bring(network, (folder, from), blob, |now| {
                    tell(now.bytes, now.total)
                })
                .await
            }
        }
    }
}

/// How far a download is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Brought {
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes in all.
    pub total: u64,
    /// Where it is, once it is whole.
    pub path: Option<PathBuf>,
}

/// The downloads of a running node: each goes on by itself while commands ask how far it is.
#[derive(Debug, Clone, Default)]
pub struct Downloads(Arc<Mutex<BTreeMap<BlobId, watch::Receiver<Download>>>>);

/// How far a download is, or how it ended.
#[derive(Debug, Clone)]
enum Download {
    At(u64),
    Ended(Result<PathBuf, String>),
}

impl Downloads {
    /// Starts a download unless it is under way, and waits a moment for it.
    ///
    /// # Errors
    /// [`MemberError::Unreached`] if it has failed: asked again, it goes on where it was.
    pub async fn bring(
        &self,
        network: &Network,
        (folder, from): (&Folder, &Contact),
        blob: BlobRef,
    ) -> Result<Brought, MemberError> {
        let mut state = self.started(network, (folder, from), blob);
        let ended = state.wait_for(|state| matches!(state, Download::Ended(_)));
        let ended = tokio::time::timeout(PIECE, ended).await;
        let at = ended.map_or(true, |seen| seen.is_err());
        let state = state.borrow().clone();
        let (total, bytes) = (blob.bytes, blob.bytes);
        match state {
            Download::At(bytes) if at => Ok(Brought {
                bytes,
                total,
                path: None,
            }),
            Download::At(_) => Err(MemberError::Unreached(
                from.app_server,
                "it broke".to_owned(),
            )),
            Download::Ended(result) => {
                self.lock().remove(&blob.id);
                let failed = |why| MemberError::Unreached(from.app_server, why);
                let path = Some(result.map_err(failed)?);
                Ok(Brought { bytes, total, path })
            }
        }
    }

    fn started(
        &self,
        network: &Network,
        (folder, from): (&Folder, &Contact),
        blob: BlobRef,
    ) -> watch::Receiver<Download> {
        let mut under_way = self.lock();
        if let Some(state) = under_way.get(&blob.id) {
            return state.clone();
        }
        let (tell, state) = watch::channel(Download::At(0));
        under_way.insert(blob.id, state.clone());
        let (network, folder, from) = (network.clone(), folder.clone(), from.clone());
        tokio::spawn(async move {
            let progress = |now: Progress| drop(tell.send(Download::At(now.bytes)));
            let result = bring(&network, (&folder, &from), blob, progress).await;
            let result = result.map_err(|error| chain(&error));
            let _ = tell.send(Download::Ended(result));
        });
        state
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BlobId, watch::Receiver<Download>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn bring(
    network: &Network,
    (folder, from): (&Folder, &Contact),
    blob: BlobRef,
    tell: impl FnMut(Progress) + Send,
) -> Result<PathBuf, MemberError> {
    connect(network, from).await?;
    let path = folder.downloads();
    let opened = BlobStore::open(
        &path,
        StoreLimits {
            bytes_max: 2 * BUNDLE_BYTES_MAX,
        },
    );
    let unusable = |error: &dyn std::error::Error| MemberError::Bundle(chain(error));
    let store = opened.map_err(|error| unusable(&error))?;
    let fetched = blobs::fetch(network, &store, from.app_server, blob, None, tell).await;
    fetched.map_err(|error| MemberError::Unreached(from.app_server, chain(&error)))?;
    store
        .path(blob.id)
        .ok_or_else(|| MemberError::Bundle("it has gone again".to_owned()))
}

async fn connect(network: &Network, to: &Contact) -> Result<(), MemberError> {
    let addresses = to.addresses.iter().filter_map(|text| text.parse().ok());
    let connected = network.connect(to.app_server, addresses.collect()).await;
    connected.map_err(|error| MemberError::Unreached(to.app_server, chain(&error)))
}

/// Asks over a network, connecting first.
///
/// # Errors
/// [`MemberError::Unreached`].
pub async fn ask_over(
    network: &Network,
    to: &Contact,
    request: EnrollRequest,
) -> Result<EnrollReply, MemberError> {
    connect(network, to).await?;
    let asked = network.ask_enroll(to.app_server, request).await;
    asked.map_err(|error| MemberError::Unreached(to.app_server, chain(&error)))
}

/// Asks through the running node.
async fn through(
    socket: &Path,
    to: &Contact,
    request: &EnrollRequest,
) -> Result<EnrollReply, MemberError> {
    let asked = Request::AskAppServer {
        contact: to.clone(),
        request: Content(codec::to_bytes(request)),
    };
    let answered = admin::ask::<Content>(socket, &asked).await;
    let unreached =
        |error: &dyn std::error::Error| MemberError::Unreached(to.app_server, chain(error));
    let Content(bytes) = answered.map_err(|error| unreached(&error))?;
    codec::from_bytes(&bytes, ENROLL_BYTES_MAX).map_err(|error| unreached(&error))
}

/// One app server, over a line.
#[derive(Debug, Clone, Copy)]
pub struct Desk<'a> {
    /// The way to it.
    pub line: &'a Line,
    /// Where it is.
    pub contact: &'a Contact,
}

/// Takes the answer that belongs to a question.
macro_rules! answer {
    ($self:ident, $request:expr, $kind:ident) => {
        match $self.line.ask($self.contact, $request).await? {
            EnrollReply::$kind(answer) => Ok(answer),
            _ => Err(MemberError::Answer(
                "it belongs to another question".to_owned(),
            )),
        }
    };
}

#[expect(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "one for each question of the conversation, which has the words; each fails as `Line::ask` does"
)]
impl Desk<'_> {
    pub async fn product(&self, id: ProductId) -> Result<Product, MemberError> {
        answer!(self, EnrollRequest::Product(id), Product).map(|product| *product)
    }

    pub async fn offer(&self, id: OfferId) -> Result<DiscountOffer, MemberError> {
        answer!(self, EnrollRequest::Offer(id), Offer).map(|offer| *offer)
    }

    pub async fn enrol(&self, request: EnrollRequest) -> Result<Signed<Registration>, MemberError> {
        answer!(self, request, Registered)
    }

    pub async fn purse(&self) -> Result<Purse, MemberError> {
        answer!(self, EnrollRequest::Purse, Purse)
    }

    pub async fn open(&self, wish: Wish, key: IdempotencyKey) -> Result<OrderShown, MemberError> {
        answer!(self, EnrollRequest::Open { wish, key }, Order).map(|order| *order)
    }

    pub async fn redeem(
        &self,
        order: OrderId,
        points: Vec<PointsShown>,
    ) -> Result<OrderShown, MemberError> {
        answer!(self, EnrollRequest::Redeem { order, points }, Order).map(|order| *order)
    }

    pub async fn order(&self, order: OrderId) -> Result<OrderShown, MemberError> {
        answer!(self, EnrollRequest::Order(order), Order).map(|order| *order)
    }

    pub async fn status_list(&self) -> Result<Signed<StatusList>, MemberError> {
        answer!(self, EnrollRequest::StatusList, StatusList)
    }
}
