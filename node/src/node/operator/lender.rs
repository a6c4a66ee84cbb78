//! What the owner of a terminal asks and says.

use serde_json::Value;

use super::super::lender::{Lender, LenderError};
use super::{Operator, json};
use crate::admin::{AdminError, OwnerAsk};
use crate::error::chain;
use crate::page::{Opener, Opening};
use crate::terminal;

impl Operator {
    /// Answers what the owner asks.
    pub(super) async fn of_owner(&self, question: OwnerAsk) -> Result<Value, AdminError> {
        let lender = self.lender()?;
        match question {
            OwnerAsk::Say { said } => json(&lender.say(said).await.map_err(refused)?),
            OwnerAsk::Look => {
                lender.owner.look().await;
                json(&lender.owner.status())
            }
            OwnerAsk::Why => json(&lender.why().await.map_err(refused)?),
            OwnerAsk::Finish => {
                let _ = lender.terminal.send(terminal::Message::Drain).await;
                Ok(Value::Null)
            }
            OwnerAsk::Page => json(&self.page()?),
        }
    }

    fn page(&self) -> Result<Opening, AdminError> {
        self.page.as_ref().map(Opener::open).ok_or_else(|| {
            let hint = "it is a terminal's, unless [terminal] page is \"off\" in tally.toml";
            AdminError::new("no_page", "this node answers no page", hint)
        })
    }

    pub(super) fn lender(&self) -> Result<&Lender, AdminError> {
        self.lender.as_deref().ok_or_else(|| {
            let hint = "ask a node that runs with --role terminal, or its folder with --dir";
            AdminError::new("wrong_role", "this node is no terminal", hint)
        })
    }
}

fn refused(error: LenderError) -> AdminError {
    let (code, hint) = error.hint();
    AdminError::new(code, chain(&error), &hint)
}
