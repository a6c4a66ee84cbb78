//! `tally agreement`: a coordinator's operator decides what app servers may give for its points.

use clap::{Args, Subcommand};
use serde_json::json;
use tally_protocol::account::Money;
use tally_protocol::coordinator::Decision;
use tally_protocol::id::NodeId;
use tally_protocol::settlement::Settlement;

use super::app::{agreements, line, signed};
use super::output::table;
use super::{Common, Exit, Failure};
use crate::admin::{Request, ask};
use crate::clock;
use crate::coordinator::Partners;

/// `tally agreement`.
#[derive(Debug, Subcommand)]
pub(super) enum AgreementCommand {
    /// List what app servers have proposed, and what was agreed.
    List,
    /// Accept a proposal: redeemed points will be owed to the app server.
    Accept(Proposal),
    /// Decline a proposal.
    Decline(Proposal),
    /// List settlements that are not paid, and the newest with each app server.
    Settlements,
    /// Enter that a settlement was paid.
    Pay {
        /// The app server.
        app_server: NodeId,
        /// The number of the settlement.
        number: u32,
        /// What the payment is called outside: the bank's reference, for example.
        #[arg(long, value_name = "TEXT")]
        reference: String,
    },
}

/// A proposal.
#[derive(Debug, Args)]
pub(super) struct Proposal {
    /// Who has proposed it. [default: the only one]
    app_server: Option<NodeId>,
}

impl AgreementCommand {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::List => list(common).await,
            Self::Accept(proposal) => proposal.decide(common, Decision::Accept).await,
            Self::Decline(proposal) => proposal.decide(common, Decision::Decline).await,
            Self::Settlements => settlements(common).await,
            Self::Pay {
                app_server,
                number,
                reference,
            } => {
                let request = Request::PaySettlement {
                    app_server,
                    number,
                    reference,
                };
                super::account::post(common, request).await
            }
        }
    }
}

async fn partners(common: &Common) -> Result<Partners, Failure> {
    Ok(ask(&common.folder()?.socket(), &Request::Agreements).await?)
}

async fn list(common: &Common) -> Result<(), Failure> {
    let partners = partners(common).await?;
    common.output().result(&partners, || {
        let now = clock::now();
        let proposed = partners.proposed.iter();
        let proposed = proposed.map(|of| line(of.app_server, of, "proposed"));
        let made = partners.made.iter().map(|of| {
            let mut others = partners.made.iter();
            let newer = others.any(|other| {
                other.app_server == of.app_server && other.number > of.number && other.holds(now)
            });
            let state = if of.holds(now) && !newer {
                "in force"
            } else {
                "made"
            };
            line(of.app_server, of, state)
        });
        let rows: Vec<_> = proposed.chain(made).collect();
        agreements(&rows, "app server")
    })
}

async fn settlements(common: &Common) -> Result<(), Failure> {
    let settlements = partners(common).await?.settlements;
    common.output().result(&settlements, || {
        if settlements.is_empty() {
            return "no settlement yet".to_owned();
        }
        let row = |(settled, is_open): &(Settlement, bool)| {
            let money = |minor| Money {
                currency: settled.currency,
                minor,
            };
            let state = if *is_open { "open" } else { "paid" };
            vec![
                settled.app_server.to_string(),
                settled.number.to_string(),
                format!(
                    "{} of {}",
                    money(settled.redeemed.minor),
                    settled.redeemed.count
                ),
                signed(settled.due, money(0)),
                state.to_owned(),
            ]
        };
        let rows: Vec<_> = settlements.iter().map(row).collect();
        table(&["app server", "number", "redeemed", "due", "state"], &rows)
    })
}

impl Proposal {
    async fn decide(self, common: &Common, decision: Decision) -> Result<(), Failure> {
        let proposed = partners(common).await?.proposed;
        let wanted = proposed.iter().filter(|of| {
            self.app_server
                .is_none_or(|app_server| app_server == of.app_server)
        });
        let wanted: Vec<_> = wanted.collect();
        let [agreement] = wanted.as_slice() else {
            let message = match wanted.len() {
                0 => "decide: no proposal waits".to_owned(),
                count => format!("decide: {count} proposals wait"),
            };
            let hint = "`tally agreement list` shows them; name the app server";
            return Err(Failure::new(Exit::NotFound, message).hint(hint));
        };
        let (app_server, number) = (agreement.app_server, agreement.number);
        let request = Request::Decide {
            app_server,
            number,
            decision,
        };
        let () = ask(&common.folder()?.socket(), &request).await?;
        let word = match decision {
            Decision::Accept => "accepted",
            Decision::Decline => "declined",
        };
        let shown = json!({"app_server": app_server, "number": number, "decision": decision});
        common.output().result(&shown, || {
            format!("agreement {number} with {app_server} is {word}")
        })
    }
}
