//! Answers the operator's questions that come through the admin socket.

mod lender;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tally_ledger::cli::{AnswerError, LedgerQuery};
use tally_ledger::wallet::{WalletAnswer, WalletQuery};
use tally_protocol::codec;
use tally_protocol::coordinator::{DecisionFault, OrderFault};
use tally_protocol::id::{NodeId, PostingId};
use tally_protocol::message::announce::Role;
use tally_protocol::message::blob::{BlobGrant, BlobRange};
use tally_protocol::message::enroll::ENROLL_BYTES_MAX;
use tally_protocol::registration::Registration;
use tally_protocol::signed::Signed;
use tally_protocol::task::BlobRef;
use tally_protocol::unit::ProfileId;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::Roles;
use super::lender::Lender;
use crate::admin::{self, AdminError, Content, FETCH_BYTES_MAX, Request};
use crate::app_server::operator::Counter;
use crate::coordinator::{self, ClawBackError, Operator as Ask};
use crate::error::chain;
use crate::folder::Folder;
use crate::member::line::{Downloads, ask_over};
use crate::member::steward::MemberStatus;
use crate::member::{Contact, Member, MemberError};
use crate::network::{Network, Reachability, TrafficSeen};
use crate::owner::OwnerStatus;
use crate::page::Opener;
use crate::terminal::TerminalStatus;
use crate::web;
use crate::witness::{self, WitnessedLog};

/// How a node is.
#[derive(Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its id.
    pub node: NodeId,
    /// Its network.
    pub network: String,
    /// The roles it plays.
    pub roles: Vec<Role>,
    /// Its data folder.
    pub folder: String,
    /// The profile of its sandbox.
    pub profile: ProfileId,
    /// Where it can be reached.
    pub addresses: Vec<String>,
    /// Whether others reach it.
    pub reach: Reachability,
    /// The bytes that came and went.
    pub traffic: TrafficSeen,
    /// Connected peers.
    pub peers: usize,
    /// Its process.
    pub process: u32,
    /// Where it answers HTTP, if it is an app server.
    pub http: Option<SocketAddr>,
    /// The terminal, if it is one.
    pub terminal: Option<TerminalStatus>,
    /// What the owner of the terminal allows.
    pub owner: Option<OwnerStatus>,
    /// How it stands at app servers, if it is a terminal.
    pub memberships: Vec<MemberStatus>,
}

/// Knows whom to ask.
#[derive(Debug)]
pub(super) struct Operator {
    coordinator: Option<mpsc::Sender<coordinator::Message>>,
    witness: Option<mpsc::Sender<witness::Message>>,
    network: Network,
    node: NodeId,
    roles: Vec<Role>,
    folder: Folder,
    member: Member,
    lender: Option<Arc<Lender>>,
    downloads: Downloads,
    app_server: Option<Counter>,
    http: Option<SocketAddr>,
    page: Option<Opener>,
    stop: mpsc::Sender<()>,
}

impl Operator {
    /// Lets it answer for the terminal.
    pub(super) fn with_lender(self, lender: Option<Arc<Lender>>) -> Self {
        Self { lender, ..self }
    }

    /// Lets it ask the app server.
    pub(super) fn with_app_server(self, app_server: Option<Counter>) -> Self {
        Self { app_server, ..self }
    }

    pub(super) fn new(
        running: &Roles,
        network: Network,
        (member, roles): (Member, Vec<Role>),
        stop: mpsc::Sender<()>,
    ) -> Self {
        let coordinator = running
            .coordinator
            .as_ref()
            .map(|part| part.mailbox.clone());
        Self {
            coordinator,
            witness: running.witness.clone(),
            network,
            node: member.me(),
            roles,
            folder: member.folder().clone(),
            member,
            lender: None,
            downloads: Downloads::default(),
            app_server: None,
            http: running.http.as_ref().map(web::Server::address),
            page: running.page.as_ref().map(|page| page.opener().clone()),
            stop,
        }
    }

    /// Answers connections until the process ends.
    pub(super) async fn run(self, socket: UnixListener) {
        let operator = Arc::new(self);
        loop {
            match socket.accept().await {
                Ok((stream, _)) => {
                    let operator = Arc::clone(&operator);
                    tokio::spawn(async move {
                        let served = admin::serve(stream, |request| operator.answer(request)).await;
                        if let Err(error) = served {
                            tracing::debug!("admin connection ended: {error}");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!("cannot accept an admin connection: {error}");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn answer(&self, request: Request) -> Result<Value, AdminError> {
        match request {
            Request::Status => json(&self.status().await),
            Request::Peers => json(&self.network.peers().await),
            Request::Reach => json(&self.network.reachability().await),
            Request::Find => json(&self.network.find_coordinators().await),
            Request::Witness => json(&self.witnessed().await?),
            Request::Counters => json(&self.counters()),
            Request::Tasks => json(&self.ask(Ask::List).await?),
            Request::Task { task } => match self.ask(|reply| Ask::Status(task, reply)).await? {
                Some(status) => json(&status),
                None => Err(unknown(&task.to_string())),
            },
            Request::Cancel { task } => match self.ask(|reply| Ask::Cancel(task, reply)).await? {
                Some(status) => json(&status),
                None => Err(unknown(&task.to_string())),
            },
            Request::Move {
                movement,
                money,
                reference,
            } => {
                let ordered = |reply| Ask::Move(movement, money, reference, reply);
                posted(self.ask(ordered).await?)
            }
            Request::ClawBack { receipt, reason } => {
                let ordered = |reply| Ask::ClawBack(receipt, reason, reply);
                clawed_back(self.ask(ordered).await?)
            }
            Request::Agreements => json(&self.ask(Ask::Agreements).await?),
            Request::Decide {
                app_server,
                number,
                decision,
            } => {
                let decided = self.ask(|reply| Ask::Decide(app_server, number, decision, reply));
                let decided = decided.await?.map_err(|fault| refused_decision(&fault));
                decided.map(|()| Value::Null)
            }
            Request::PaySettlement {
                app_server,
                number,
                reference,
            } => {
                let paid = |reply| Ask::PaySettlement(app_server, number, reference, reply);
                posted(self.ask(paid).await?)
            }
            Request::App { question } => match &self.app_server {
                Some(counter) => counter.answer(question).await,
                None => Err(no_app_server()),
            },
            Request::Ledger { query } => self.ledger(query).await,
            Request::Wallet { query } => json(&self.wallet(query).await?),
            Request::Fetch { from, range, grant } => json(&self.fetch(from, range, grant).await?),
            Request::AskAppServer { contact, request } => {
                json(&self.ask_app_server(&contact, &request.0).await?)
            }
            Request::Bring { contact, blob } => self.bring(&contact, blob).await,
            Request::Registered { registration } => self.registered(registration).await,
            Request::Prove { license, nonce } => {
                let proof = self.member.prove(license, nonce.0);
                json(&Content(proof.as_bytes().to_vec()))
            }
            Request::Owner { question } => self.of_owner(question).await,
            Request::Stop => {
                let _ = self.stop.try_send(());
                Ok(Value::Null)
            }
        }
    }

    async fn status(&self) -> NodeStatus {
        let terminal = match &self.lender {
            Some(lender) => lender.status().await.ok(),
            None => None,
        };
        NodeStatus {
            node: self.node,
            network: self.network.network().to_string(),
            roles: self.roles.clone(),
            folder: self.folder.root().display().to_string(),
            profile: tally_sandbox::profile().clone(),
            addresses: self
                .network
                .addresses()
                .await
                .iter()
                .map(ToString::to_string)
                .collect(),
            reach: self.network.reachability().await,
            traffic: self.network.traffic().seen(),
            peers: self.network.peers().await.len(),
            process: std::process::id(),
            http: self.http,
            terminal,
            owner: self.lender.as_ref().map(|lender| lender.owner.status()),
            memberships: self
                .lender
                .as_ref()
                .map_or_else(Vec::new, |lender| lender.memberships()),
        }
    }

    async fn witnessed(&self) -> Result<Vec<WitnessedLog>, AdminError> {
        let Some(mailbox) = &self.witness else {
            let hint = "ask a node that runs with --role terminal or coordinator";
            let message = "this node does not look at logs";
            return Err(AdminError::new("wrong_role", message, hint));
        };
        let (reply, answered) = oneshot::channel();
        let _ = mailbox.send(witness::Message::List(reply)).await;
        answered.await.map_err(|_| {
            let hint = "start the node again";
            AdminError::new("stopping", "the node is stopping", hint)
        })
    }

    /// Asks an app server for a command.
    async fn ask_app_server(
        &self,
        contact: &Contact,
        request: &[u8],
    ) -> Result<Content, AdminError> {
        let request = codec::from_bytes(request, ENROLL_BYTES_MAX).map_err(|error| {
            let hint = "the node and the command line may be of different versions";
            AdminError::new("malformed", error.to_string(), hint)
        })?;
        let reply = ask_over(&self.network, contact, request).await;
        let reply = reply.map_err(|error| refused_member(&error))?;
        Ok(Content(codec::to_bytes(&reply)))
    }

    /// Downloads an application for a command.
    async fn bring(&self, contact: &Contact, blob: BlobRef) -> Result<Value, AdminError> {
        let of = (&self.folder, contact);
        let brought = self.downloads.bring(&self.network, of, blob).await;
        json(&brought.map_err(|error| refused_member(&error))?)
    }

    /// Takes in a registration.
    async fn registered(&self, registration: Signed<Registration>) -> Result<Value, AdminError> {
        if let Some(lender) = &self.lender {
            let _ = lender.stewardship.registered.send(registration).await;
        }
        Ok(Value::Null)
    }

    /// Reads the log of the coordinator or app server of this node.
    async fn ledger(&self, query: LedgerQuery) -> Result<Value, AdminError> {
        let answer = match &self.app_server {
            Some(counter) => counter.desk.ledger(query).await.map_err(|error| {
                AdminError::new("stopping", error.to_string(), "start the node again")
            })?,
            None => self.ask(|reply| Ask::Ledger(query, reply)).await?,
        };
        let refused =
            |error: AnswerError| AdminError::new(error.code(), chain(&error), error.hint());
        json(&answer.map_err(refused)?)
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let counters = self.network.counters().all().into_iter();
        let named = counters.map(|((topic, name), n)| (format!("{topic}.{name}"), n));
        named.collect()
    }

    /// Reads the terminal's wallet.
    async fn wallet(&self, query: WalletQuery) -> Result<WalletAnswer, AdminError> {
        let read = self.lender()?.wallet(query).await;
        read.map_err(|error| AdminError::new("wallet", chain(&error), error.hint()))
    }

    /// Reads a part of a blob from another node.
    async fn fetch(
        &self,
        from: NodeId,
        range: BlobRange,
        grant: Signed<BlobGrant>,
    ) -> Result<Content, AdminError> {
        if range.bytes > FETCH_BYTES_MAX {
            let message = format!("at most {FETCH_BYTES_MAX} bytes are read at once");
            return Err(AdminError::new("usage", message, "ask for less"));
        }
        let read = crate::blobs::read_range(&self.network, from, range, Some(grant)).await;
        let hint = "the coordinator may be away, or the leave to read has expired";
        read.map(Content)
            .map_err(|error| AdminError::new("fetch", chain(&error), hint))
    }

    /// Asks the coordinator of this node.
    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> Result<T, AdminError> {
        let Some(mailbox) = &self.coordinator else {
            let hint = "ask a node that runs with --role coordinator, or the customer's own folder with --dir";
            return Err(AdminError::new(
                "wrong_role",
                "this node is no coordinator",
                hint,
            ));
        };
        let (reply, answered) = oneshot::channel();
        let gone = |_| {
            AdminError::new(
                "stopping",
                "the coordinator is stopping",
                "start the node again",
            )
        };
        mailbox
            .send(coordinator::Message::Operator(question(reply)))
            .await
            .map_err(|_| gone(()))?;
        answered.await.map_err(|_| gone(()))
    }
}

fn posted(posting: Result<PostingId, OrderFault>) -> Result<Value, AdminError> {
    json(&posting.map_err(|fault| refused_order(&fault))?)
}

fn clawed_back(posting: Result<PostingId, ClawBackError>) -> Result<Value, AdminError> {
    json(&posting.map_err(|error| match error {
        ClawBackError::Order(fault) => refused_order(&fault),
        ClawBackError::Unknown(_) | ClawBackError::Read(_) => {
            let hint = "`tally ledger entries` lists the receipts";
            AdminError::new("no_such_receipt", chain(&error), hint)
        }
    })?)
}

fn no_app_server() -> AdminError {
    let hint = "ask a node that runs with --role app-server, or its folder with --dir";
    AdminError::new("wrong_role", "this node is no app server", hint)
}

fn refused_decision(fault: &DecisionFault) -> AdminError {
    let (code, hint) = match fault {
        DecisionFault::NoProposal { .. } => (
            "unknown_agreement",
            "`tally agreement list` shows what is proposed",
        ),
        DecisionFault::Faulty(_) => (
            "faulty_agreement",
            "decline it, and agree with the app server on another one",
        ),
    };
    AdminError::new(code, format!("decide: {fault}"), hint)
}

fn refused_order(fault: &OrderFault) -> AdminError {
    let (code, hint) = match fault {
        OrderFault::Repeated { .. } => (
            "repeated",
            "nothing was posted again; another payment needs another reference",
        ),
        OrderFault::Reference { .. } => {
            ("reference", "write what the payment is called, on one line")
        }
        OrderFault::Amount { .. } => ("amount", "write an amount above zero"),
        OrderFault::Currency { .. } => (
            "currency",
            "the currency is set by [coordinator.rates] in tally.toml",
        ),
        OrderFault::Posting(_) => (
            "insufficient_funds",
            "`tally ledger balance` shows what is where; nothing was posted",
        ),
        OrderFault::NothingLeft => (
            "nothing_left",
            "`tally ledger receipt ID` shows what became of it",
        ),
        OrderFault::NoSettlement { .. } => (
            "no_settlement",
            "`tally ledger entries` shows the settlements and what was paid",
        ),
    };
    AdminError::new(code, format!("post this: {fault}"), hint)
}

fn refused_member(error: &MemberError) -> AdminError {
    AdminError::new("app_server", chain(error), error.hint())
}

fn unknown(task: &str) -> AdminError {
    AdminError::new(
        "unknown_task",
        format!("no task {task} is here"),
        "`tally task list` shows the tasks that are",
    )
}

fn json(value: &impl Serialize) -> Result<Value, AdminError> {
    serde_json::to_value(value)
        .map_err(|error| AdminError::new("internal", error.to_string(), "please report this"))
}
