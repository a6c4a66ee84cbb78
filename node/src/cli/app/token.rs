//! Bearer tokens of the HTTP interface.

use clap::{Subcommand, ValueEnum};
use serde_json::json;
use tally_protocol::id::NodeId;

use super::{done, put};
use crate::app_server::operator::{AppAsk, NewToken, TokenAsk};
use crate::cli::failure::Exit;
use crate::cli::output::table;
use crate::cli::{Common, Failure};
use crate::http::tokens::{Bearer, TokenShown};

/// `tally app token`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Token {
    /// Make a token. It is shown once and kept nowhere: only its hash is.
    New {
        /// Who may ask with it: whoever runs the app server, a shop that takes vouchers, or a user.
        #[arg(long)]
        kind: Kind,
        /// By which it is listed and revoked. [default: for a user, the id of the owner]
        #[arg(long)]
        name: Option<String>,
        /// For a user: the owner whose orders, licenses and points it shows.
        #[arg(long, value_name = "ID")]
        owner: Option<NodeId>,
    },
    /// List the tokens.
    List,
    /// Revoke a token: it counts no more.
    Revoke {
        /// Its name.
        name: String,
    },
}

/// Who may ask with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Kind {
    Operator,
    Shop,
    User,
}

impl Token {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::New { kind, name, owner } => {
                let (name, bearer) = named(kind, name, owner)?;
                let ask = TokenAsk::New { name, bearer };
                let made: NewToken = put(common, AppAsk::Token { ask }).await?;
                common
                    .output()
                    .note("shown this once; keep it like a password");
                common.output().result(&made, || made.token.clone())
            }
            Self::List => {
                let ask = TokenAsk::List;
                let tokens: Vec<TokenShown> = put(common, AppAsk::Token { ask }).await?;
                common.output().result(&tokens, || shown(&tokens))
            }
            Self::Revoke { name } => {
                let ask = TokenAsk::Revoke { name: name.clone() };
                let () = put(common, AppAsk::Token { ask }).await?;
                let text = format!("the token {name} counts no more");
                done(common, &json!({"revoked": name}), &text)
            }
        }
    }
}

fn named(
    kind: Kind,
    name: Option<String>,
    owner: Option<NodeId>,
) -> Result<(String, Bearer), Failure> {
    let usage = |text: &str| Failure::new(Exit::Usage, format!("make a token: {text}"));
    match (kind, name, owner) {
        (Kind::User, name, Some(owner)) => {
            let name = name.unwrap_or_else(|| owner.to_string());
            Ok((name, Bearer::User { owner }))
        }
        (Kind::User, _, None) => Err(usage("say whose it is with --owner ID")),
        (Kind::Operator | Kind::Shop, _, Some(_)) => Err(usage("only users have an --owner")),
        (Kind::Operator, Some(name), None) => Ok((name, Bearer::Operator)),
        (Kind::Shop, Some(name), None) => Ok((name, Bearer::Shop)),
        (Kind::Operator | Kind::Shop, None, None) => Err(usage("name it with --name NAME")),
    }
}

fn shown(tokens: &[TokenShown]) -> String {
    if tokens.is_empty() {
        return "there is no token: `tally app token new`".to_owned();
    }
    let row = |token: &TokenShown| {
        let bearer = match &token.bearer {
            Bearer::Operator => "operator".to_owned(),
            Bearer::Shop => "shop".to_owned(),
            Bearer::User { owner } => format!("user {owner}"),
        };
        vec![token.name.clone(), bearer, token.created.to_string()]
    };
    let rows: Vec<_> = tokens.iter().map(row).collect();
    table(&["token", "who", "made"], &rows)
}
