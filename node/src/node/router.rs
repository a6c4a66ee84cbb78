//! Takes what happens in the overlay to the role that it concerns.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tally_protocol::coordinator::Input as CoordinatorInput;
use tally_protocol::id::NodeId;
use tally_protocol::message::Refusal;
use tally_protocol::message::customer::{CustomerReply, CustomerRequest};
use tally_protocol::message::enroll::{EnrollReply, EnrollRequest};
use tally_protocol::message::log::LogReply;
use tally_protocol::message::redeem::{RedeemReply, RedeemRequest};
use tally_protocol::message::registry::{RegistryReply, RegistryRequest};
use tally_protocol::message::work::{WorkReply, WorkRequest};
use tally_protocol::terminal::Input as TerminalInput;
use tally_protocol::witness::Input as WitnessInput;
use tokio::sync::mpsc;

use super::Roles;
use crate::app_server;
use crate::config::Config;
use crate::coordinator;
use crate::network::{Answer, Network, NetworkEvent};
use crate::terminal;
use crate::witness;

/// Knows the mailboxes of the roles that are played.
#[derive(Debug)]
pub(super) struct Router {
    coordinator: Option<mpsc::Sender<coordinator::Message>>,
    terminal: Option<mpsc::Sender<terminal::Message>>,
    witness: Option<mpsc::Sender<witness::Message>>,
    app_server: Option<mpsc::Sender<app_server::Message>>,
    network: Network,
    share: bool,
}

impl Router {
    pub(super) fn new(roles: &Roles, network: Network, config: &Config) -> Self {
        Self {
            coordinator: roles.coordinator.as_ref().map(|part| part.mailbox.clone()),
            terminal: roles.terminal.as_ref().map(|part| part.mailbox.clone()),
            witness: roles.witness.clone(),
            app_server: roles.app_server.as_ref().map(|part| part.mailbox.clone()),
            network,
            share: config.terminal.share_address,
        }
    }

    /// Routes until the overlay ends.
    pub(super) async fn run(self, mut events: mpsc::Receiver<NetworkEvent>) {
        while let Some(event) = events.recv().await {
            self.route(event).await;
        }
    }

    async fn route(&self, event: NetworkEvent) {
        match event {
            NetworkEvent::Listening(address) => {
                tracing::info!(%address, "listening");
                if self.share {
                    self.share_addresses().await;
                }
            }
            NetworkEvent::Connected(node) => tracing::debug!(?node, "connected"),
            NetworkEvent::Foreign { .. } => {}
            NetworkEvent::Disconnected(node) => self.disconnected(node).await,
            NetworkEvent::CoordinatorFound(node) => {
                tracing::info!(coordinator = %node, "found a coordinator");
                self.tell_terminal(TerminalInput::Found(node)).await;
                self.tell_witness(WitnessInput::Found(node)).await;
            }
            NetworkEvent::OfferHeard { offer, from } => {
                tracing::debug!(task = %offer.task, ?from, "heard an offer");
                self.tell_terminal(TerminalInput::OfferHeard(Box::new(offer)))
                    .await
            }
            NetworkEvent::HeadHeard(head) => {
                tracing::debug!(?head, "heard the head of a log");
                if let Some(witness) = &self.witness {
                    // Gossip for which there is no room comes again.
                    let heard = witness::Message::Input(WitnessInput::Heard(head));
                    let _ = witness.try_send(heard);
                }
            }
            NetworkEvent::LogAsked {
                request, answer, ..
            } => match &self.coordinator {
                Some(coordinator) => {
                    let _ = coordinator.try_send(coordinator::Message::LogAsked(request, answer));
                }
                None => answer.send(LogReply::Refused(Refusal::WrongRole)),
            },
            NetworkEvent::WorkAsked {
                from,
                request,
                answer,
            } => self.work_asked(from, request, answer),
            NetworkEvent::CustomerAsked {
                from,
                request,
                answer,
            } => self.customer_asked(from, request, answer),
            NetworkEvent::RegistryAsked {
                from,
                request,
                answer,
            } => self.registry_asked(from, request, answer),
            NetworkEvent::RedeemAsked {
                from,
                request,
                answer,
            } => self.redeem_asked(from, request, answer),
            NetworkEvent::EnrollAsked {
                from,
                request,
                answer,
            } => self.enroll_asked(from, request, answer),
        }
    }

    async fn disconnected(&self, node: NodeId) {
        tracing::debug!(?node, "disconnected");
        self.tell_terminal(TerminalInput::Lost(node)).await;
        self.tell_witness(WitnessInput::Lost(node)).await;
        if let Some(coordinator) = &self.coordinator {
            let gone = coordinator::Message::input(CoordinatorInput::Gone(node));
            let _ = coordinator.send(gone).await;
        }
    }

    /// Lets the terminal tell where other terminals may reach it.
    async fn share_addresses(&self) {
        let addresses = self.network.addresses().await;
        let with_peer =
            |address: &Multiaddr| address.iter().any(|part| matches!(part, Protocol::P2p(_)));
        let shared = addresses
            .into_iter()
            .filter(with_peer)
            .map(|address| address.to_string());
        self.tell_terminal(TerminalInput::Shared(shared.collect()))
            .await;
    }

    fn work_asked(&self, from: NodeId, request: WorkRequest, answer: Answer<WorkReply>) {
        match (request, &self.coordinator, &self.terminal) {
            (WorkRequest::Pull(pull), Some(coordinator), _) => {
                // A full mailbox drops the answer, which tells the terminal that the node is busy.
                let _ = coordinator.try_send(coordinator::Message::Pull { from, pull, answer });
            }
            (WorkRequest::Nudge(task), _, Some(terminal)) => {
                let _ = terminal.try_send(terminal::nudge(from, task));
                answer.send(WorkReply::Nudged);
            }
            (WorkRequest::Hello | WorkRequest::Pull(_) | WorkRequest::Nudge(_), ..) => {
                answer.send(WorkReply::Refused(Refusal::WrongRole));
            }
        }
    }

    fn customer_asked(
        &self,
        from: NodeId,
        request: CustomerRequest,
        answer: Answer<CustomerReply>,
    ) {
        match &self.coordinator {
            Some(coordinator) => {
                let _ = coordinator.try_send(coordinator::Message::Asked {
                    from,
                    request,
                    answer,
                });
            }
            None => answer.send(CustomerReply::Refused(Refusal::WrongRole)),
        }
    }

    fn redeem_asked(&self, from: NodeId, request: RedeemRequest, answer: Answer<RedeemReply>) {
        match &self.coordinator {
            Some(coordinator) => {
                let asked = coordinator::PartnerAsked::Redeem(request, answer);
                let _ = coordinator.try_send(coordinator::Message::PartnerAsked(from, asked));
            }
            None => answer.send(RedeemReply::Refused(Refusal::WrongRole)),
        }
    }

    fn enroll_asked(&self, from: NodeId, request: EnrollRequest, answer: Answer<EnrollReply>) {
        match &self.app_server {
            Some(app_server) => {
                let message = app_server::Message::EnrollAsked(from, Box::new(request), answer);
                let _ = app_server.try_send(message);
            }
            None => answer.send(EnrollReply::Refused(Refusal::WrongRole)),
        }
    }

    fn registry_asked(
        &self,
        from: NodeId,
        request: RegistryRequest,
        answer: Answer<RegistryReply>,
    ) {
        match (&self.coordinator, &self.app_server) {
            (Some(coordinator), _) => {
                let asked = coordinator::PartnerAsked::Registry(request, answer);
                let _ = coordinator.try_send(coordinator::Message::PartnerAsked(from, asked));
            }
            (None, Some(app_server)) => {
                let message = app_server::Message::RegistryAsked(from, request, answer);
                let _ = app_server.try_send(message);
            }
            (None, None) => answer.send(RegistryReply::Refused(Refusal::WrongRole)),
        }
    }

    async fn tell_witness(&self, input: WitnessInput) {
        if let Some(witness) = &self.witness {
            let _ = witness.send(witness::Message::Input(input)).await;
        }
    }

    async fn tell_terminal(&self, input: TerminalInput) {
        if let Some(terminal) = &self.terminal {
            let _ = terminal.send(terminal::Message::input(input)).await;
        }
    }
}
