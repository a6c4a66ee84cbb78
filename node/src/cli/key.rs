//! `tally key`: the node's name is its key.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::{Common, Exit, Failure};
use crate::keys::{self, KeyError};

/// `tally key`.
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make a new key in the data folder.
    New,
    /// Show the node id that belongs to the key.
    Show,
    /// Write a copy of the key to a file, readable by you only.
    Backup {
        /// The file; must not exist.
        file: PathBuf,
    },
}

impl Key {
    pub(super) fn run(self, common: &Common) -> Result<(), Failure> {
        let (folder, output) = (common.folder()?, common.output());
        let path = folder.key();
        let key = match self {
            Self::New => keys::create(&path).map_err(|error| {
                let exists = matches!(error, KeyError::Exists(_));
                let failure = Failure::from(error);
                if exists {
                    return failure
                        .hint("`tally key show` shows it; another --dir has another key");
                }
                failure
            })?,
            Self::Show => read(&path)?,
            Self::Backup { file } => {
                let key = read(&path)?;
                keys::write(&file, &key)?;
                output.note(format!(
                    "the key is in {}; whoever has this file is this node",
                    file.display()
                ));
                key
            }
        };
        let node = keys::node_id(&key);
        output.result(&json!({"node": node, "file": path}), || node.to_string())
    }
}

fn read(path: &std::path::Path) -> Result<ed25519_dalek::SigningKey, Failure> {
    keys::read(path).map_err(|error| {
        let missing = matches!(error, KeyError::Missing(_));
        Failure::from(error).exit(if missing {
            Exit::NotFound
        } else {
            Exit::Failed
        })
    })
}
