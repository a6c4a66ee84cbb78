//! What an owner says to the terminal: pause, go on, finish; and what it answers: why.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use tally_protocol::manners::{Because, Question, Said, Until};
use tally_protocol::time::Timestamp;

use super::failure::Exit;
use super::output::table;
use super::{Common, Failure};
use crate::admin::{AskError, OwnerAsk, Request, ask};
use crate::clock;
use crate::folder::Folder;
use crate::owner::OwnerStatus;
use crate::owner::preferences::{self, PreferencesError};
use crate::owner::why::Why;

/// The longest time for which it may be put off.
const SNOOZE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// `tally snooze`.
#[derive(Debug, Args)]
pub(super) struct Snooze {
    /// For how long, such as 30m, 2h or 1day; at most 7 days.
    #[arg(default_value = "1h", value_parser = snooze_time, value_name = "TIME")]
    time: Duration,
}

/// `tally finish`.
#[derive(Debug, Args)]
pub(super) struct Finish {
    /// Stop the node then, instead of waiting for `tally resume`.
    #[arg(long)]
    stop: bool,
}

fn snooze_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=SNOOZE_MAX).contains(&time) {
        Ok(time)
    } else {
        Err("it must be 1s to 7days; `tally pause` has no end".to_owned())
    }
}

/// `tally pause`.
pub(super) async fn pause(common: &Common) -> Result<(), Failure> {
    say(common, Said::Pause, "paused; `tally resume` goes on").await
}

/// `tally resume`.
pub(super) async fn resume(common: &Common) -> Result<(), Failure> {
    let status: OwnerStatus = ask_to(common, Said::Resume).await?;
    common
        .output()
        .result(&status, || match status.because.first() {
            None => "it goes on".to_owned(),
            Some(because) => format!("you let it go on, but {}", sentence(because)),
        })
}

impl Snooze {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let until = clock::now() + self.time;
        let text = format!("paused until {}", time(until));
        say(common, Said::Snooze { until }, &text).await
    }
}

impl Finish {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        if !self.stop {
            let text =
                "what is there is finished, then it is paused; `tally resume` takes work again";
            return say(common, Said::Finish, text).await;
        }
        let socket = common.folder()?.socket();
        let done: serde_json::Value = ask(&socket, &owner(OwnerAsk::Finish)).await?;
        common.output().result(&done, || {
            "what is there is finished and reported, then the node stops".to_owned()
        })
    }
}

async fn say(common: &Common, said: Said, text: &str) -> Result<(), Failure> {
    let status = ask_to(common, said).await?;
    common.output().result(&status, || text.to_owned())
}

const fn owner(question: OwnerAsk) -> Request {
    Request::Owner { question }
}

async fn ask_to(common: &Common, said: Said) -> Result<OwnerStatus, Failure> {
    Ok(ask(&common.folder()?.socket(), &owner(OwnerAsk::Say { said })).await?)
}

/// `tally why`.
pub(super) async fn why(common: &Common) -> Result<(), Failure> {
    let why: Why = ask(&common.folder()?.socket(), &owner(OwnerAsk::Why)).await?;
    common.output().result(&why, || why_text(&why))
}

fn why_text(why: &Why) -> String {
    let mut lines = vec![why.summary.clone()];
    for (question, heading) in [
        (Question::Paused, "why nothing is computed"),
        (Question::NoWork, "why no more work comes"),
        (Question::NotPaid, "why work is not paid, or not yet"),
        (Question::NoResult, "why units gave no result"),
    ] {
        let mut of = why
            .because
            .iter()
            .filter(|found| found.reason.question() == question);
        let Some(first) = of.next() else {
            continue;
        };
        lines.extend([String::new(), heading.to_owned()]);
        for because in std::iter::once(first).chain(of) {
            lines.extend(because_lines(because));
        }
    }
    lines.join("\n")
}

/// Returns what people see of a reason.
fn because_lines(because: &Because) -> Vec<String> {
    let mut lines = vec![format!("  {}", sentence(because))];
    lines.push(format!(
        "    since {}, {}",
        time(because.since),
        until(because.until)
    ));
    let remedy = because.reason.remedy();
    lines.push(format!("    {}: {remedy}", because.reason.code()));
    lines
}

/// Says a reason with its values.
pub(super) fn sentence(because: &Because) -> String {
    let about = because.reason.about();
    if because.detail.is_empty() {
        about.to_owned()
    } else {
        format!("{about} ({})", because.detail)
    }
}

/// Says when a reason ends.
pub(super) fn until(until: Until) -> String {
    match until {
        Until::At(at) => format!("until {}", time(at)),
        Until::YouAct => "until you change it".to_owned(),
        Until::ItChanges => "until that changes".to_owned(),
        Until::Over => "which is over".to_owned(),
    }
}

/// Writes a time to the second.
fn time(at: Timestamp) -> String {
    let text = at.to_string();
    let (whole, _) = text.split_once('.').unwrap_or((&text, ""));
    format!("{} UTC", whole.replace('T', " "))
}

/// `tally preferences`.
#[derive(Debug, Subcommand)]
pub(super) enum Preferences {
    /// Show every preference and where it comes from.
    Show,
    /// Set a preference; a running node follows within a second.
    Set {
        /// Which, as `tally preferences show` names it.
        key: String,
        /// Its value; lists take several.
        #[arg(required = true)]
        values: Vec<String>,
    },
    /// Take a preference back: the preset says what holds.
    Unset {
        /// Which.
        key: String,
    },
    /// Check the file, or another one, without following it.
    Check {
        /// The file. [default: preferences.toml in the data folder]
        file: Option<std::path::PathBuf>,
    },
}

/// A preference, for programs.
#[derive(Debug, Serialize)]
struct Row {
    key: &'static str,
    value: String,
    /// Whether the file says so; else the preset does.
    written: bool,
}

impl Preferences {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let folder = common.folder()?;
        match self {
            Self::Show => show(common, &folder),
            Self::Set { key, values } => set(common, &folder, (key, values)).await,
            Self::Unset { key } => set(common, &folder, (key, Vec::new())).await,
            Self::Check { file } => {
                let path = file.unwrap_or_else(|| folder.preferences());
                if !path.exists() {
                    let message = format!("check {}: there is no such file", path.display());
                    let hint =
                        "without one the preset medium holds; `tally preferences set` makes it";
                    return Err(Failure::new(Exit::NotFound, message).hint(hint));
                }
                let memory = tally_host::memory_total();
                let read = preferences::read(&path, memory).map_err(refused)?;
                let preset = read.preset;
                common
                    .output()
                    .result(&serde_json::json!({"ok": true}), || {
                        format!("{} is in order (preset {preset})", path.display())
                    })
            }
        }
    }
}

fn show(common: &Common, folder: &Folder) -> Result<(), Failure> {
    let read = preferences::read(&folder.preferences(), None).map_err(refused)?;
    let written = preferences::written_keys(&folder.preferences()).map_err(refused)?;
    let row = |(key, value): (&'static str, String)| Row {
        written: written.contains(key),
        key,
        value,
    };
    let rows: Vec<Row> = read.rows().into_iter().map(row).collect();
    common.output().result(&rows, || {
        let preset = format!("preset {}", read.preset);
        let cells = rows.iter().map(|row| {
            let value = if row.value.is_empty() {
                "-"
            } else {
                &row.value
            };
            let from = if row.written {
                "preferences.toml"
            } else {
                &preset
            };
            vec![row.key.to_owned(), value.to_owned(), from.to_owned()]
        });
        table(&["preference", "value", "from"], &cells.collect::<Vec<_>>())
    })
}

async fn set(
    common: &Common,
    folder: &Folder,
    change: (String, Vec<String>),
) -> Result<(), Failure> {
    let memory = tally_host::memory_total();
    let key = change.0.clone();
    let read = preferences::change(folder, &[change], memory).map_err(refused)?;
    let is_set = |(known, _): &(&str, String)| *known == key;
    let value = read.rows().into_iter().find(is_set);
    let value = value.map_or(String::new(), |(_, value)| value);
    // A node that does not run follows when it starts.
    let followed = match ask::<OwnerStatus>(&folder.socket(), &owner(OwnerAsk::Look)).await {
        Ok(_) => "the running node follows it",
        Err(AskError::NotRunning) => "the node follows it when it starts",
        Err(error) => return Err(error.into()),
    };
    let set = serde_json::json!({"key": key, "value": value});
    common
        .output()
        .result(&set, || format!("{key} is {value}; {followed}"))
}

pub(super) fn refused(error: PreferencesError) -> Failure {
    let exit = match &error {
        PreferencesError::Io { .. } => Exit::Failed,
        PreferencesError::Key { .. }
        | PreferencesError::Value { .. }
        | PreferencesError::Faulty { .. } => Exit::Usage,
    };
    Failure::new(exit, crate::error::chain(&error)).hint(error.hint())
}
