//! Statements of peers: their signatures are checked on blocking threads, what follows is decided here.

use futures::FutureExt;

use super::super::discovery::ROLE_RENEWAL;
use tally_protocol::message::reach::ReachReply;
use tally_protocol::message::work::{WorkReply, WorkRequest};

use super::*;

/// The longest validity of a role statement that is believed.
const ROLE_VALIDITY_MAX: Duration = Duration::from_secs(24 * 3_600);

/// What came back from a blocking thread.
pub(super) enum Checked {
    Offer {
        id: MessageId,
        source: PeerId,
        result: Box<Result<Verified<Offer>, Fault>>,
    },
    Head {
        id: MessageId,
        source: PeerId,
        result: Result<VerifiedCheckpoint, Fault>,
    },
    Role {
        node: NodeId,
        result: Result<Verified<RoleStatement>, &'static str>,
    },
    /// A visit to a peer is over.
    Visited(NodeId),
    /// A peer was asked to try an address of this node; `None` if it did not answer.
    Reach(Option<ReachReply>),
    Saved,
}

impl Service {
    /// Asks a peer for its role statement; the answer comes back checked.
    pub(super) fn ask_roles(&mut self, node: NodeId) {
        let (reply, answered) = oneshot::channel();
        let talk = &mut self.swarm.behaviour_mut().work;
        self.work.ask(talk, node, WorkRequest::Hello, reply);
        let network = self.network.clone();
        let check = async move {
            let result = match answered.await {
                Ok(Ok(WorkReply::Role(statement))) => {
                    tokio::task::spawn_blocking(move || check_role(statement, node, &network))
                        .await
                        .unwrap_or(Err("check_failed"))
                }
                Ok(Ok(_)) => Err("not_shown"),
                Ok(Err(_)) | Err(_) => Err("no_answer"),
            };
            Checked::Role { node, result }
        };
        self.checks.push(check.boxed());
    }

    pub(super) fn on_checked(&mut self, checked: Checked) {
        match checked {
            Checked::Offer { id, source, result } => {
                self.offers_in_check -= 1;
                self.on_offer_checked(&id, &source, *result);
            }
            Checked::Head { id, source, result } => {
                self.heads_in_check -= 1;
                self.on_head_checked(&id, &source, result);
            }
            Checked::Role { node, result } => self.on_role_checked(node, result),
            Checked::Visited(node) => self.reach_testing.ended(node),
            Checked::Reach(reply) => self.on_reach_answer(reply),
            Checked::Saved => {}
        }
    }

    fn on_role_checked(
        &mut self,
        node: NodeId,
        result: Result<Verified<RoleStatement>, &'static str>,
    ) {
        let statement = match result {
            Ok(statement) => statement,
            Err(reason) => {
                self.counters.count("role", reason);
                tracing::debug!(peer = %node, reason, "a peer has not shown its roles");
                self.discovery.on_hello_failed(node, Instant::now());
                return;
            }
        };
        if !self.peers.is_connected(node) {
            return;
        }
        let shown = ShownRoles {
            roles: statement.roles.clone(),
            expires: statement.expires,
        };
        self.peers.shown_roles(node, shown.roles.clone());
        let addresses = self.peers.known_addresses(node);
        if self.discovery.on_roles(node, shown, addresses, now()) {
            self.counters.count("role", "coordinator_found");
            self.tell(NetworkEvent::CoordinatorFound(node));
        }
    }

    fn on_offer_checked(
        &mut self,
        id: &MessageId,
        source: &PeerId,
        result: Result<Verified<Offer>, Fault>,
    ) {
        let admitted = result.and_then(|offer| {
            let admitted = self.offers.admit(&offer, now());
            admitted.map(|()| offer).map_err(Fault::Kept)
        });
        let fault = admitted.as_ref().err().copied();
        self.judge(Subject::Offers, (id, source), fault);
        let (Ok(offer), Some(from)) = (admitted, node_of(source)) else {
            return;
        };
        let addresses = offer.addresses.iter();
        let addresses = addresses.filter_map(|address| address.parse().ok());
        let addresses = addresses.collect();
        let candidate = self
            .discovery
            .on_offerer(offer.signer(), addresses, Instant::now());
        self.act(candidate);
        self.tell(NetworkEvent::OfferHeard { offer, from });
    }

    fn on_head_checked(
        &mut self,
        id: &MessageId,
        source: &PeerId,
        result: Result<VerifiedCheckpoint, Fault>,
    ) {
        let admitted = result.and_then(|head| {
            let admitted = self.heads.admit(&head, now());
            admitted.then_some(head).ok_or(Fault::TooManyHeads)
        });
        let fault = admitted.as_ref().err().copied();
        self.judge(Subject::Heads, (id, source), fault);
        if let Ok(head) = admitted {
            self.tell(NetworkEvent::HeadHeard(head));
        }
    }

    /// Tells gossipsub, once, what became of a message.
    pub(super) fn judge(
        &mut self,
        subject: Subject,
        (id, source): (&MessageId, &PeerId),
        fault: Option<Fault>,
    ) {
        let name = fault.map_or("accepted", Fault::name);
        self.counters.count(subject.counters(), name);
        let acceptance = fault.map_or(gossipsub::MessageAcceptance::Accept, Fault::acceptance);
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(id, source, acceptance);
    }
}

/// Checks the role statement that `node` has sent over its own connection.
fn check_role(
    statement: Signed<RoleStatement>,
    node: NodeId,
    network: &NetworkId,
) -> Result<Verified<RoleStatement>, &'static str> {
    let statement = statement.verify(network).map_err(|_| "unverified")?;
    let clock = now();
    if statement.signer() != node {
        Err("other_signer")
    } else if statement.protocol != PROTOCOL_VERSION {
        Err("other_version")
    } else if !(ROLE_RENEWAL..=ROLE_VALIDITY_MAX).contains(&statement.expires.since(clock)) {
        // One that is about to end would be asked for again and again.
        Err("expired")
    } else {
        Ok(statement)
    }
}
