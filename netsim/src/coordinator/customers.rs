//! Questions of customers, on their way to the machine.

use tally_protocol::coordinator::Input;
use tally_protocol::message::Refusal;
use tally_protocol::message::customer::{CustomerReply, CustomerRequest};

use super::{Asker, CoordinatorNode, NEXT_LOOK, Within};
use crate::peer::Peer;
use crate::stage::{Body, Stage};

impl CoordinatorNode {
    pub(super) fn asked(
        &mut self,
        stage: &mut Stage,
        (peer, ask): (Peer, u64),
        request: CustomerRequest,
    ) {
        if self.is_writing() {
            // The machine is ahead of the disk.
            let request = Within::Asked(peer, ask, Box::new(request));
            return self.plan(stage, stage.now + NEXT_LOOK, request);
        }
        let by = stage.directory.id(peer);
        let (since, results) = (stage.now, None);
        let asker = Asker {
            peer,
            ask,
            since,
            results,
        };
        let refuse = |refusal| Body::CustomerAnswered(CustomerReply::Refused(refusal));
        match request {
            CustomerRequest::Submit(signed) => {
                match stage.signatures.verify(signed, &stage.network) {
                    Ok(task) if task.signer() != by => {
                        self.reply(stage, (peer, ask), refuse(Refusal::NotAdmitted));
                    }
                    Ok(task) => {
                        if let Some(question) = self.question(asker) {
                            self.push(stage, Input::Submitted { question, task });
                        }
                    }
                    Err(_) => self.reply(stage, (peer, ask), refuse(Refusal::Unverified)),
                }
            }
            CustomerRequest::Cancel(task) => {
                if let Some(question) = self.question(asker) {
                    self.push(stage, Input::Cancelled { question, task, by });
                }
            }
            CustomerRequest::Watch { task, seen } => self.watch(stage, asker, (task, by, seen)),
            CustomerRequest::Terms => {
                let terms = self.machine().and_then(|machine| machine.terms(by));
                let body = terms.map_or_else(
                    || refuse(Refusal::Busy),
                    |terms| Body::CustomerAnswered(CustomerReply::Terms(Box::new(terms))),
                );
                self.reply(stage, (peer, ask), body);
            }
            CustomerRequest::List => {
                let tasks = self.machine().map(|machine| machine.list(by));
                let reply = CustomerReply::Tasks(tasks.unwrap_or_default());
                self.reply(stage, (peer, ask), Body::CustomerAnswered(reply));
            }
        }
    }
}
