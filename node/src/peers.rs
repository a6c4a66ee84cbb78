//! The way to other nodes, and to the other roles of this one.
//!
//! A node may play several roles in one process, and libp2p does not dial itself: what a role asks of its own node
//! goes straight to the role that answers.

use libp2p::Multiaddr;
use tally_protocol::id::NodeId;
use tally_protocol::message::Refusal;
use tally_protocol::message::blob::{BlobGrant, BlobRange};
use tally_protocol::message::log::{LogReply, LogRequest};
use tally_protocol::message::work::{WorkReply, WorkRequest};
use tally_protocol::signed::Signed;
use tokio::sync::mpsc;

use crate::blobs::{self, BlobStore, FetchError};
use crate::coordinator;
use crate::error::joined;
use crate::network::{Answer, AskError, DialError, Network};

/// The way to all nodes.
#[derive(Debug, Clone)]
pub struct Peers {
    network: Network,
    own: Option<Own>,
}

/// The coordinator of this node.
#[derive(Debug, Clone)]
struct Own {
    mailbox: mpsc::Sender<coordinator::Message>,
    store: BlobStore,
}

impl Peers {
    /// Returns the way to others.
    #[must_use]
    pub const fn new(network: Network) -> Self {
        Self { network, own: None }
    }

    /// Adds the coordinator of this node, with its contents.
    pub fn add_own(&mut self, mailbox: mpsc::Sender<coordinator::Message>, store: BlobStore) {
        self.own = Some(Own { mailbox, store });
    }

    /// Returns this node, if it has a coordinator.
    #[must_use]
    pub fn own_coordinator(&self) -> Option<NodeId> {
        self.own.as_ref().map(|_| self.network.me())
    }

    /// Returns the overlay.
    #[must_use]
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// Asks `to` about work.
    ///
    /// # Errors
    /// [`AskError`] if there is no answer.
    pub async fn ask_work(&self, to: NodeId, request: WorkRequest) -> Result<WorkReply, AskError> {
        let Some(own) = self.own.as_ref().filter(|_| to == self.network.me()) else {
            return self.network.ask_work(to, request).await;
        };
        let WorkRequest::Pull(pull) = request else {
            return Ok(WorkReply::Refused(Refusal::WrongRole));
        };
        let (answer, answered) = Answer::channel();
        let message = coordinator::Message::Pull {
            from: to,
            pull,
            answer,
        };
        own.mailbox
            .send(message)
            .await
            .map_err(|_| AskError::ShutDown)?;
        answered.await.map_err(|_| AskError::ShutDown)
    }

    /// Asks `to` about its log.
    ///
    /// # Errors
    /// [`AskError`] if there is no answer.
    pub async fn ask_log(&self, to: NodeId, request: LogRequest) -> Result<LogReply, AskError> {
        let Some(own) = self.own.as_ref().filter(|_| to == self.network.me()) else {
            return self.network.ask_log(to, request).await;
        };
        let (answer, answered) = Answer::channel();
        let message = coordinator::Message::LogAsked(request, answer);
        let sent = own.mailbox.send(message).await;
        sent.map_err(|_| AskError::ShutDown)?;
        answered.await.map_err(|_| AskError::ShutDown)
    }

    /// Connects to `node` at `addresses`.
    ///
    /// # Errors
    /// [`DialError`] if no address works.
    pub async fn connect(&self, node: NodeId, addresses: Vec<Multiaddr>) -> Result<(), DialError> {
        if node == self.network.me() {
            return Ok(());
        }
        self.network.connect(node, addresses).await
    }

    /// Dials an address.
    ///
    /// # Errors
    /// [`DialError`] if nobody answers there.
    pub async fn dial(&self, address: Multiaddr) -> Result<NodeId, DialError> {
        self.network.dial(address).await
    }

    /// Reads a part of a blob that `from` holds.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn read_range(
        &self,
        from: NodeId,
        range: BlobRange,
        grant: Option<Signed<BlobGrant>>,
    ) -> Result<Vec<u8>, FetchError> {
        let Some(own) = self.own.as_ref().filter(|_| from == self.network.me()) else {
            return blobs::read_range(&self.network, from, range, grant).await;
        };
        let store = own.store.clone();
        let read = tokio::task::spawn_blocking(move || store.read(range));
        let read = joined(read.await);
        Ok(read?)
    }
}
