//! Answers for the terminal of a node beside its own loop: to its owner, by the command line and by the page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tally_ledger::wallet::{
    Earnings, Unpaid, UtcOffset, Wallet, WalletAnswer, WalletError, WalletQuery,
};
use tally_protocol::id::NodeId;
use tally_protocol::manners::Said;
use tally_protocol::time::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::error::{chain, joined};
use crate::folder::Folder;
use crate::member::steward::{MemberStatus, Stewardship};
use crate::network::Network;
use crate::owner::preferences::{self, PreferencesError};
use crate::owner::why::{Seen, Why};
use crate::owner::{Owner, OwnerStatus, SaidError};
use crate::page::desk::{Action, DAYS, Desk, DeskError, GoalView, PageView, RunningUnits};
use crate::page::form::FIELDS;
use crate::programs;
use crate::terminal::{self, TerminalStatus};
use crate::witness::{self, WitnessedLog};
use crate::worker::AtWork;

/// What answers for a terminal.
#[derive(Debug)]
pub(super) struct Lender {
    pub(super) folder: Folder,
    pub(super) node: NodeId,
    pub(super) network: Network,
    pub(super) terminal: mpsc::Sender<terminal::Message>,
    pub(super) witness: Option<mpsc::Sender<witness::Message>>,
    pub(super) wallet: Arc<Wallet>,
    pub(super) owner: Owner,
    pub(super) stewardship: Stewardship,
    /// When the terminal was started.
    pub(super) started: Timestamp,
}

/// Why the terminal does not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LenderError {
    /// It ends.
    #[error("ask the terminal: it is stopping")]
    Stopping,
    /// The wallet cannot be read.
    #[error("read the wallet")]
    Wallet(#[from] WalletError),
    /// What the owner said could not be kept.
    #[error(transparent)]
    Said(#[from] SaidError),
    /// The preferences could not be changed.
    #[error(transparent)]
    Preferences(#[from] PreferencesError),
}

impl LenderError {
    /// Returns a word for programs, and what to do.
    pub(super) fn hint(&self) -> (&'static str, String) {
        match self {
            Self::Stopping => ("stopping", "start the node again".to_owned()),
            Self::Wallet(error) => ("wallet", error.hint().to_owned()),
            Self::Said(_) => {
                let hint = "a pause holds until the node ends, `tally resume` does not; check the disk and the rights to the folder";
                ("not_kept", hint.to_owned())
            }
            Self::Preferences(error) => ("preferences", error.hint()),
        }
    }
}

impl Lender {
    /// Asks the terminal how it is.
    pub(super) async fn status(&self) -> Result<TerminalStatus, LenderError> {
        let (reply, answered) = oneshot::channel();
        let _ = self.terminal.send(terminal::Message::Status(reply)).await;
        answered.await.map_err(|_| LenderError::Stopping)
    }

    /// Returns how the computer stands at app servers.
    pub(super) fn memberships(&self) -> Vec<MemberStatus> {
        self.stewardship.status.borrow().clone()
    }

    /// Reads the wallet.
    pub(super) async fn wallet(&self, query: WalletQuery) -> Result<WalletAnswer, WalletError> {
        let wallet = Arc::clone(&self.wallet);
        joined(tokio::task::spawn_blocking(move || wallet.answer(&query)).await)
    }

    /// Tells the terminal what its owner says. When this returns it is done, and kept.
    pub(super) async fn say(&self, said: Said) -> Result<OwnerStatus, LenderError> {
        let heard = self.owner.say(said).await;
        heard.map_err(|error| error.map_or(LenderError::Stopping, LenderError::Said))?;
        Ok(self.owner.status())
    }

    /// Puts together why the terminal does what it does.
    pub(super) async fn why(&self) -> Result<Why, LenderError> {
        let terminal = self.status().await?;
        let unpaid = self.unpaid().await?;
        Ok(self.why_of(&terminal, &unpaid).await)
    }

    async fn why_of(&self, terminal: &TerminalStatus, unpaid: &Unpaid) -> Why {
        let logs = self.witnessed().await;
        let forks = logs
            .iter()
            .filter_map(|log| Some((log.log, log.fork.as_ref()?.found)));
        Why::of(&Seen {
            now: clock::now(),
            started: self.started,
            owner: &self.owner.status(),
            terminal,
            peers: self.network.peers().await.len(),
            forked: &forks.collect::<Vec<_>>(),
            unpaid,
        })
    }

    async fn witnessed(&self) -> Vec<WitnessedLog> {
        let Some(witness) = &self.witness else {
            return Vec::new();
        };
        let (reply, answered) = oneshot::channel();
        let _ = witness.send(witness::Message::List(reply)).await;
        answered.await.unwrap_or_default()
    }

    async fn unpaid(&self) -> Result<Unpaid, WalletError> {
        let wallet = Arc::clone(&self.wallet);
        joined(tokio::task::spawn_blocking(move || wallet.unpaid(clock::now())).await)
    }

    async fn earnings(&self, offset: UtcOffset) -> Result<Earnings, WalletError> {
        let (wallet, now) = (Arc::clone(&self.wallet), clock::now());
        joined(tokio::task::spawn_blocking(move || wallet.earnings(now, DAYS, offset)).await)
    }

    /// Changes preferences, and waits until they are followed.
    async fn prefer(&self, changes: Vec<(String, Vec<String>)>) -> Result<(), LenderError> {
        let (folder, memory) = (self.folder.clone(), self.owner.status().memory_total);
        let change = move || preferences::change(&folder, &changes, memory);
        joined(tokio::task::spawn_blocking(change).await)?;
        self.owner.look().await;
        Ok(())
    }

    async fn shown(&self) -> Result<PageView, LenderError> {
        let (terminal, unpaid) = (self.status().await?, self.unpaid().await?);
        let offset = clock::utc_offset(clock::now());
        let earnings = self.earnings(offset).await?;
        let because = self.why_of(&terminal, &unpaid).await.because;
        let path = self.folder.preferences();
        let written =
            joined(tokio::task::spawn_blocking(move || preferences::read(&path, None)).await);
        let rows = written.map_or_else(|_| Vec::new(), |preferences| preferences.rows());
        let is_shown = |key: &str| key == "preset" || FIELDS.iter().any(|field| field.key == key);
        let rows = rows.into_iter().filter(|(key, _)| is_shown(key));
        Ok(PageView {
            now: clock::now(),
            offset,
            node: self.node,
            owner: terminal.owner,
            because,
            running: terminal.at_work.iter().map(running).collect(),
            earnings,
            unpaid,
            goals: self.memberships().into_iter().filter_map(goal).collect(),
            preferences: rows
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<BTreeMap<_, _>>(),
        })
    }

    async fn done(&self, action: Action) -> Result<(), LenderError> {
        let said = match action {
            Action::Pause => Said::Pause,
            Action::Resume => Said::Resume,
            Action::Finish => Said::Finish,
            Action::Snooze(minutes) => Said::Snooze {
                until: clock::now() + Duration::from_secs(u64::from(minutes) * 60),
            },
            Action::Preset(preset) => {
                let fields = FIELDS.iter().map(|field| field.key.to_owned());
                let mut changes: Vec<_> = fields.map(|key| (key, Vec::new())).collect();
                changes.push(("preset".to_owned(), vec![preset.to_string()]));
                return self.prefer(changes).await;
            }
            Action::Set(values) => {
                return self.prefer(values.into_iter().map(listed).collect()).await;
            }
        };
        self.say(said).await.map(|_| ())
    }
}

/// Takes a value of the page as the file has it: hours are a list.
fn listed((key, value): (String, String)) -> (String, Vec<String>) {
    let values = match key.as_str() {
        "hours" => value
            .split(',')
            .map(|part| part.trim().to_owned())
            .collect(),
        _ => vec![value],
    };
    (key, values)
}

/// Returns what people see of a slot at work.
fn running(at: &AtWork) -> RunningUnits {
    let percent = at
        .done
        .saturating_mul(100)
        .checked_div(at.units)
        .unwrap_or(0);
    RunningUnits {
        program: programs::name_of(at.program),
        task: at.task,
        units: (at.first, at.last),
        since: at.since,
        // One unit does not say how far it is.
        percent: u8::try_from(percent).ok().filter(|_| at.units > 1),
        suspended: at.paused,
    }
}

fn goal(member: MemberStatus) -> Option<GoalView> {
    let goal = member.goal?;
    Some(GoalView {
        vendor: member.vendor,
        product: goal.product,
        state: goal.state.to_string(),
        points: goal.points,
        escrowed: goal.escrowed,
        needed: goal.needed,
        license: goal.license.map(|code| code.to_string()),
        license_until: goal.license_until,
    })
}

impl Desk for Lender {
    fn view(&self) -> BoxFuture<'_, Result<PageView, DeskError>> {
        async {
            self.shown()
                .await
                .map_err(|error| DeskError::Failed(chain(&error)))
        }
        .boxed()
    }

    fn act(&self, action: Action) -> BoxFuture<'_, Result<(), DeskError>> {
        async {
            let fields: Vec<String> = match &action {
                Action::Set(values) => values.iter().map(|(key, _)| key.clone()).collect(),
                Action::Pause
                | Action::Resume
                | Action::Snooze(_)
                | Action::Finish
                | Action::Preset(_) => Vec::new(),
            };
            self.done(action).await.map_err(|error| match error {
                LenderError::Preferences(PreferencesError::Faulty { reason, .. }) => {
                    // Beside the field that the reason names, else beside the first.
                    let named = fields.iter().find(|key| reason.contains(key.as_str()));
                    let key = named.or(fields.first()).cloned().unwrap_or_default();
                    DeskError::Values(vec![(key, reason)])
                }
                LenderError::Preferences(PreferencesError::Value { key, wanted, .. }) => {
                    DeskError::Values(vec![(key, format!("it must be {wanted}"))])
                }
                LenderError::Preferences(
                    error @ (PreferencesError::Key { .. } | PreferencesError::Io { .. }),
                ) => DeskError::Failed(chain(&error)),
                error @ (LenderError::Stopping | LenderError::Wallet(_) | LenderError::Said(_)) => {
                    DeskError::Failed(chain(&error))
                }
            })
        }
        .boxed()
    }
}
