//! What leaves a coordinator once it is durable: answers, nudges, offers, orders to itself. And what is then a fact.

use tally_protocol::account::{Holder, Money};
use tally_protocol::coordinator::{Answer, Effect, Fact, NewLeases, Pulled, Vote};
use tally_protocol::entry::{Event, Fund, Payee};
use tally_protocol::id::{NodeId, ReceiptId, TaskId};
use tally_protocol::message::Refusal;
use tally_protocol::message::announce::Offer;
use tally_protocol::message::customer::CustomerReply;
use tally_protocol::message::work::{Leased, WorkReply, WorkRequest};
use tally_protocol::signed::Signed;

use super::{Asker, CoordinatorNode};
use crate::conduct::Me;
use crate::happening::{Gave, Happening, Lease, Payment, Unit};
use crate::peer::Peer;
use crate::stage::{Body, Envelope, Stage};

impl CoordinatorNode {
    /// Carries out effects, all of whose records are durable.
    pub(super) fn release(&mut self, stage: &mut Stage, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Record(_)
                | Effect::Append { .. }
                | Effect::Keep { .. }
                | Effect::Forget(_) => {}
                Effect::Answer {
                    question,
                    answer: Answer::Ordered(result),
                } => self.ordered(stage, question, &result),
                Effect::Answer { question, answer } => {
                    let asker = self
                        .up
                        .as_mut()
                        .and_then(|up| up.questions.remove(&question));
                    if let Some(asker) = asker {
                        self.answer(stage, asker, answer);
                    }
                }
                Effect::Nudge { to, task } => {
                    if let Some(to) = stage.directory.peer(&to) {
                        let body = Body::WorkAsked(WorkRequest::Nudge(task));
                        let (from, ask) = (self.peer, 0);
                        stage.send(Envelope {
                            from,
                            to,
                            ask,
                            body,
                        });
                    }
                }
                Effect::Tell {
                    app_server, holder, ..
                } => self.expect_to_tell(stage, app_server, holder),
                Effect::Announce(offer) => self.announce(stage, offer),
                Effect::Fetch(task) => self.fetch(stage, task),
                Effect::Divide(task) => self.divide(stage, task),
                Effect::Merge(task) => self.merge(stage, task),
                Effect::Edit { task, merged } => self.edit(stage, task, merged),
                Effect::Changed(task) => {
                    if self.has_watchers(&task) {
                        self.news(stage, task);
                    }
                }
            }
        }
    }

    fn answer(&mut self, stage: &mut Stage, asker: Asker, answer: Answer) {
        let to = (asker.peer, asker.ask);
        match answer {
            Answer::Status(status) => self.tell(stage, to, *status),
            Answer::Pulled(pulled) => self.answer_pull(stage, asker, *pulled),
            Answer::Refused(refusal) => self.refuse(stage, &asker, refusal),
            Answer::Registry(reply) => self.reply(stage, to, Body::RegistryAnswered(reply)),
            Answer::Points(of) => {
                let holders: Vec<Holder> = of.into_iter().map(|(holder, _)| holder).collect();
                self.answer_points(stage, to, &holders);
            }
            Answer::Redeem(reply) => self.answer_redeem(stage, to, reply),
            Answer::Ordered(_) | Answer::Decided(_) => unreachable!("no peer gives orders"),
        }
    }

    fn refuse(&self, stage: &mut Stage, asker: &Asker, refusal: Refusal) {
        let body = if asker.results.is_none() {
            Body::CustomerAnswered(CustomerReply::Refused(refusal))
        } else {
            Body::WorkAnswered(WorkReply::Refused(refusal))
        };
        self.reply(stage, (asker.peer, asker.ask), body);
    }

    fn answer_pull(&mut self, stage: &mut Stage, asker: Asker, pulled: Pulled) {
        let (to, ask) = (asker.peer, asker.ask);
        let mut reply = pulled.into_reply(|new| Some(self.sign(stage, to, new)));
        for grant in &reply.ended {
            stage.note(&Happening::LeaseEnded {
                by: self.peer,
                of: to,
                grant: *grant,
            });
        }
        let me = Me::coordinator((self.peer, self.id), &self.setup, stage);
        if let Some(how) = self.conduct.reply(&mut reply, &me, &mut self.chance) {
            let by = self.peer;
            stage.note(&Happening::Cheated { by, to, how });
        }
        let results = asker.results.unwrap_or_default();
        for ((grant, unit), verdict) in results.into_iter().zip(&reply.verdicts) {
            stage.note(&Happening::Judged {
                by: self.peer,
                to,
                grant,
                unit,
                verdict: *verdict,
            });
        }
        let body = Body::WorkAnswered(WorkReply::Pulled(Box::new(reply)));
        self.reply(stage, (to, ask), body);
    }

    fn sign(&self, stage: &mut Stage, to: Peer, new: NewLeases) -> Leased {
        let leases = new.grant.units.iter().map(|leased| Lease {
            unit: leased.unit,
            attempt: leased.attempt,
        });
        stage.note(&Happening::Leased {
            by: self.peer,
            to,
            grant: new.grant.id,
            task: new.grant.task,
            leases: leases.collect(),
        });
        let inputs = new.inline.then(|| {
            let bytes: u64 = new.grant.units.iter().map(|leased| leased.bytes).sum();
            vec![0; usize::try_from(bytes).unwrap_or_default()]
        });
        let grant = stage
            .signatures
            .sign(new.grant, &stage.network, &self.setup.key);
        Leased {
            grant: grant.signed().clone(),
            inputs,
            // Reading is modelled without it: the terminal reads from the coordinator itself.
            read: Signed::from_bytes(Vec::new()),
            rate_card: new.rate_card,
        }
    }

    fn announce(&self, stage: &mut Stage, offer: Offer) {
        let (by, task) = (self.peer, offer.task);
        let signed = stage
            .signatures
            .sign(offer, &stage.network, &self.setup.key);
        let reached = stage.publish(by, signed.signed());
        stage.note(&Happening::Offered { by, task, reached });
    }

    /// Notes what the records of these effects have made a fact.
    pub(super) fn note_durable(&self, stage: &mut Stage, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Record(fact) => self.note_fact(stage, fact),
                Effect::Append { event, .. } => self.note_event(stage, event),
                Effect::Keep { .. }
                | Effect::Forget(_)
                | Effect::Answer { .. }
                | Effect::Nudge { .. }
                | Effect::Tell { .. }
                | Effect::Announce(_)
                | Effect::Fetch(_)
                | Effect::Divide(_)
                | Effect::Merge(_)
                | Effect::Edit { .. }
                | Effect::Changed(_) => {}
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each fact")]
    fn note_fact(&self, stage: &mut Stage, fact: &Fact) {
        let at = self.peer;
        let peer = |node: &NodeId| stage.directory.peer(node).unwrap_or(at);
        match fact {
            Fact::Divided { task, division } => stage.note(&Happening::Divided {
                by: at,
                task: *task,
                units: division.table.count(),
            }),
            Fact::Reported {
                task,
                holder,
                votes,
                ..
            } => {
                let by = peer(&holder.device);
                self.note_votes(stage, (task, by), votes);
            }
            Fact::Answered {
                task,
                holder,
                vote,
                compared,
                ..
            } => {
                let (unit, gave) = said(task, vote);
                stage.note(&Happening::Answered {
                    at,
                    by: peer(&holder.device),
                    unit,
                    gave,
                    compared: *compared,
                });
            }
            Fact::Faulted {
                task,
                device,
                unit,
                fault,
                ..
            } => stage.note(&Happening::Faulted {
                at,
                by: peer(device),
                unit: unit_of(task, *unit),
                fault: *fault,
            }),
            Fact::Forgotten(task) => stage.note(&Happening::Forgotten {
                by: at,
                task: *task,
            }),
            Fact::Accepted { .. }
            | Fact::Arrived(_)
            | Fact::Merged { .. }
            | Fact::Ended { .. }
            | Fact::Receipted { .. }
            | Fact::Settled(_)
            | Fact::Published(_)
            | Fact::Certified(_)
            | Fact::Ordered(_)
            | Fact::Proposed(_)
            | Fact::Declined(_)
            | Fact::Agreed(_)
            | Fact::Registered(_)
            | Fact::Revoked(_)
            | Fact::Reserved(_)
            | Fact::ReservationEnded(_)
            | Fact::Redeemed(_)
            | Fact::Reversed(_)
            | Fact::SettlementMade(_) => {}
        }
    }

    fn note_votes(&self, stage: &mut Stage, (task, by): (&TaskId, Peer), votes: &[Vote]) {
        let at = self.peer;
        for vote in votes {
            let (unit, gave) = said(task, vote);
            stage.note(&Happening::Voted { at, by, unit, gave });
        }
    }

    fn note_event(&self, stage: &mut Stage, event: &Event) {
        let by = self.peer;
        match event {
            Event::TaskAccepted { task, .. } => {
                stage.note(&Happening::Accepted { by, task: *task });
            }
            Event::BatchValidated { task, units, .. } => {
                for validated in units {
                    let peers = |nodes: &[NodeId]| -> Vec<Peer> {
                        let known = nodes.iter().filter_map(|node| stage.directory.peer(node));
                        known.collect()
                    };
                    let what = Happening::Validated {
                        by,
                        unit: Unit {
                            task: *task,
                            unit: validated.unit,
                        },
                        gave: Gave {
                            outcome: validated.outcome,
                            fuel: validated.fuel,
                            output: validated.output,
                        },
                        agreed: peers(&validated.agreed),
                        outvoted: peers(&validated.outvoted),
                    };
                    stage.note(&what);
                }
            }
            Event::TaskEnded { task, ending } => stage.note(&Happening::Ended {
                by,
                task: *task,
                ending: ending.clone(),
            }),
            Event::TaskSettled { task, .. } => stage.note(&Happening::Settled { by, task: *task }),
            Event::Receipted { receipt, .. } => {
                let id = receipt.id();
                let Ok(receipt) = stage.signatures.verify(receipt.clone(), &stage.network) else {
                    return stage.breach(by, "a receipt is in the log that is not signed");
                };
                let to = stage.directory.peer(&receipt.holder.device);
                stage.note(&Happening::Receipted {
                    by,
                    to: to.unwrap_or(by),
                    task: receipt.task,
                    owner: receipt.holder.owner,
                    receipt: id,
                    units: receipt.results().map(|(_, _, unit)| unit).collect(),
                });
            }
            Event::Deposited { .. }
            | Event::PaidOut { .. }
            | Event::Refunded { .. }
            | Event::ClawedBack { .. }
            | Event::Released { .. }
            | Event::Expired { .. } => self.note_money(stage, event),
            Event::AgreementMade { .. }
            | Event::DeviceRegistered { .. }
            | Event::RegistrationRevoked { .. }
            | Event::PointsReserved { .. }
            | Event::ReservationEnded { .. }
            | Event::PointsRedeemed { .. }
            | Event::RedemptionReversed { .. }
            | Event::SettlementMade { .. }
            | Event::SettlementPaid { .. } => self.note_partner(stage, event),
            Event::RateCardPublished { .. }
            | Event::DeviceCertified { .. }
            | Event::OrderCharged { .. }
            | Event::OrderPaid { .. }
            | Event::OrderRefunded { .. } => {}
        }
    }

    fn note_money(&self, stage: &mut Stage, event: &Event) {
        let by = self.peer;
        let node = |node: &NodeId| stage.directory.peer(node).into_iter().collect();
        let moved = |how, of: Vec<Peer>, money: &Money| Happening::MoneyMoved {
            by,
            how,
            of,
            money: *money,
        };
        let what = match event {
            Event::Deposited { to, money, .. } => match to {
                Fund::Customer(customer) => moved(Payment::Deposit, node(customer), money),
                Fund::Subsidy => moved(Payment::Deposit, Vec::new(), money),
            },
            Event::PaidOut { to, money, .. } => {
                let of = match to {
                    Payee::Customer(customer) => node(customer),
                    Payee::Owner(owner) => stage.directory.devices_of(owner).to_vec(),
                    Payee::Operator => Vec::new(),
                };
                moved(Payment::Payout, of, money)
            }
            Event::Refunded {
                customer, money, ..
            } => moved(Payment::Refund, node(customer), money),
            Event::ClawedBack { receipt, .. } => {
                let (of, receipt) = (self.holder_of(stage, *receipt).unwrap_or(by), *receipt);
                Happening::ClawedBack { by, of, receipt }
            }
            Event::Released { .. } => Happening::PointsTurned { by, expired: false },
            Event::Expired { .. } => Happening::PointsTurned { by, expired: true },
            Event::RateCardPublished { .. }
            | Event::DeviceCertified { .. }
            | Event::TaskAccepted { .. }
            | Event::BatchValidated { .. }
            | Event::TaskEnded { .. }
            | Event::TaskSettled { .. }
            | Event::Receipted { .. }
            | Event::AgreementMade { .. }
            | Event::DeviceRegistered { .. }
            | Event::RegistrationRevoked { .. }
            | Event::PointsReserved { .. }
            | Event::ReservationEnded { .. }
            | Event::PointsRedeemed { .. }
            | Event::RedemptionReversed { .. }
            | Event::SettlementMade { .. }
            | Event::SettlementPaid { .. }
            | Event::OrderCharged { .. }
            | Event::OrderPaid { .. }
            | Event::OrderRefunded { .. } => return,
        };
        stage.note(&what);
    }

    /// Returns the terminal that has a receipt, if that stands in the log and the coordinator runs.
    fn holder_of(&self, stage: &Stage, receipt: ReceiptId) -> Option<Peer> {
        let (store, read) = (self.store()?, "a store that opens can be read");
        let entry = store.entry(store.receipt_entry(receipt).expect(read)?);
        let entry = entry.expect(read)?.decode().expect("the log holds entries");
        let Event::Receipted { receipt, .. } = entry.event else {
            return None;
        };
        let receipt = receipt.verify(&stage.network).ok()?;
        stage.directory.peer(&receipt.holder.device)
    }
}

const fn unit_of(task: &TaskId, unit: u32) -> Unit {
    let task = *task;
    Unit { task, unit }
}

/// Returns the unit of a vote, and what it says.
const fn said(task: &TaskId, vote: &Vote) -> (Unit, Gave) {
    let unit = unit_of(task, vote.unit);
    let gave = Gave {
        outcome: vote.outcome,
        fuel: vote.fuel,
        output: vote.output,
    };
    (unit, gave)
}
