//! Whether others reach this node, and whether this node reaches those who ask: see [`super::super::reach`].

use libp2p::request_response::{Event, ResponseChannel};
use tally_protocol::message::reach::{ReachReply, ReachRequest};

use super::super::conversation::{Conversation, Question};
use super::super::peer::ip_of;
use super::super::reach::asking::Learnt;
use super::super::reach::testing;
use super::*;

impl Service {
    /// Returns what is known of the addresses of this node.
    pub(super) fn reachability(&self) -> Reachability {
        Reachability {
            listens: self.swarm.listeners().next().is_some(),
            testers: self.reach_asking.testers(),
            addresses: self.reach_asking.known(),
        }
    }

    /// Asks a peer to try an address, if one is due.
    pub(super) fn ask_reach(&mut self) {
        let Some((tester, address)) = self.reach_asking.ask(Instant::now()) else {
            return;
        };
        let (reply, answered) = oneshot::channel();
        let request = ReachRequest::Dial(address.to_string());
        let talk = &mut self.swarm.behaviour_mut().reach;
        self.reach.ask(talk, tester, request, reply);
        let answered = answered.map(|answered| Checked::Reach(answered.ok().and_then(Result::ok)));
        self.checks.push(answered.boxed());
    }

    /// Takes the answer; an address that was a guess is told to others if it leads here.
    pub(super) fn on_reach_answer(&mut self, reply: Option<ReachReply>) {
        match self.reach_asking.on_answer(reply, (Instant::now(), now())) {
            Some(Learnt::Good(address)) => self.swarm.add_external_address(address),
            Some(Learnt::Bad(address)) => self.swarm.remove_external_address(&address),
            None => {}
        }
    }

    /// Visits a peer that asks for it.
    pub(super) fn on_reach(&mut self, event: Event<Question<Reach>, ReachReply>) {
        let talk = &mut self.swarm.behaviour_mut().reach;
        let Some((from, request, channel)) = self.reach.on_event(talk, event) else {
            return;
        };
        let ips: Vec<_> = self
            .peers
            .remote_addresses(from)
            .filter_map(ip_of)
            .collect();
        let accepted = self
            .reach_testing
            .accept((from, &ips), &request, Instant::now());
        let address = match accepted {
            Ok(address) => address,
            Err(refusal) => return self.answer_reach(channel, Reach::refused(refusal)),
        };
        let answer = self.reach.open_answer(channel);
        let visit = testing::visit(from, address, self.traffic.clone());
        let visited = tokio::spawn(async move { answer.send(visit.await) });
        let ended = visited.map(move |_| Checked::Visited(from));
        self.checks.push(ended.boxed());
    }

    pub(super) fn answer_reach(&mut self, channel: ResponseChannel<ReachReply>, reply: ReachReply) {
        let talk = &mut self.swarm.behaviour_mut().reach;
        self.reach.answer(talk, channel, reply);
    }
}
