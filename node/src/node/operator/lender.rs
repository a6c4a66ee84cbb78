//! What the owner of a terminal asks and says.

use serde_json::Value;
use tally_ledger::wallet::{Unpaid, WalletAnswer, WalletQuery};
use tally_protocol::manners::Said;

use super::super::lending::Lender;
use super::{Operator, json};
use crate::admin::{AdminError, OwnerAsk};
use crate::clock;
use crate::error::chain;
use crate::owner::why::{Seen, Why};
use crate::terminal;

impl Operator {
    /// Answers what the owner asks.
    pub(super) async fn of_owner(&self, question: OwnerAsk) -> Result<Value, AdminError> {
        let lender = self.lender()?;
        match question {
            OwnerAsk::Say { said } => self.say(said).await,
            OwnerAsk::Look => {
                lender.owner.look().await;
                json(&lender.owner.status())
            }
            OwnerAsk::Why => json(&self.why().await?),
            OwnerAsk::Finish => {
                let mailbox = self.terminal.as_ref().ok_or_else(no_terminal)?;
                let _ = mailbox.send(terminal::Message::Drain).await;
                Ok(Value::Null)
            }
        }
    }

    pub(super) fn lender(&self) -> Result<&Lender, AdminError> {
        self.lender.as_ref().ok_or_else(no_terminal)
    }

    /// Tells the terminal what its owner says.
    async fn say(&self, said: Said) -> Result<Value, AdminError> {
        let owner = &self.lender()?.owner;
        let heard = owner.say(said).await;
        heard.map_err(|error| match error {
            Some(error) => {
                let hint = "nothing has changed; check the disk and the rights to the folder";
                AdminError::new("not_kept", chain(&error), hint)
            }
            None => stopping(),
        })?;
        json(&owner.status())
    }

    /// Puts together why the terminal does what it does.
    async fn why(&self) -> Result<Why, AdminError> {
        let Lender { owner, started, .. } = self.lender()?;
        let terminal = self.terminal_status().await.ok_or_else(stopping)?;
        let now = clock::now();
        let unpaid = match self.wallet(WalletQuery::Unpaid { now }).await? {
            WalletAnswer::Unpaid(unpaid) => *unpaid,
            WalletAnswer::Balance(_)
            | WalletAnswer::Receipts(_)
            | WalletAnswer::Dossier { .. }
            | WalletAnswer::Earnings(_) => Unpaid::default(),
        };
        let logs = self.witnessed().await?;
        let forks = logs
            .iter()
            .filter_map(|log| Some((log.log, log.fork.as_ref()?.found)));
        Ok(Why::of(&Seen {
            now,
            started: *started,
            owner: &owner.status(),
            terminal: &terminal,
            peers: self.network.peers().await.len(),
            forked: &forks.collect::<Vec<_>>(),
            unpaid: &unpaid,
        }))
    }
}

fn stopping() -> AdminError {
    AdminError::new("stopping", "the node is stopping", "start it again")
}

fn no_terminal() -> AdminError {
    let hint = "ask a node that runs with --role terminal, or its folder with --dir";
    AdminError::new("wrong_role", "this node is no terminal", hint)
}
