//! Changes of `tally.toml` that a command makes for its owner: as text, so that comments and order stay as they were
//! written.

use std::fs;
use std::io;

use serde::Deserialize;
use tally_protocol::id::NetworkId;
use toml::Spanned;

use crate::config::Config;
use crate::folder::{self, Folder};

/// Why `tally.toml` is not changed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The folder belongs to another network.
    #[error("join the network {asked}: tally.toml of this folder says {written}")]
    OtherNetwork {
        /// The network that the invitation is for.
        asked: NetworkId,
        /// The network of the folder.
        written: String,
    },
    /// It makes no sense, before or after.
    #[error("change tally.toml: {0}")]
    Toml(String),
    /// The disk says no.
    #[error("change tally.toml")]
    Io(#[from] io::Error),
}

/// What is looked at.
#[derive(Debug, Deserialize)]
struct Head {
    network: Option<String>,
    bootstrap: Option<Spanned<Vec<String>>>,
}

/// Joins a network: writes its name if none is written, and adds nodes to connect to first.
///
/// # Errors
/// [`SettingsError`]; the file is as it was then.
pub fn join(folder: &Folder, network: &NetworkId, first: &[String]) -> Result<(), SettingsError> {
    let before = read(folder)?;
    let after = joined(&before, network, first)?;
    if after != before {
        folder::write_whole(&folder.config(), after.as_bytes())?;
    }
    Ok(())
}

/// Refuses a network that the folder is not in.
///
/// # Errors
/// [`SettingsError`].
pub fn check_network(folder: &Folder, network: &NetworkId) -> Result<(), SettingsError> {
    joined(&read(folder)?, network, &[]).map(drop)
}

fn read(folder: &Folder) -> Result<String, SettingsError> {
    match fs::read_to_string(folder.config()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => Ok(read?),
    }
}

fn joined(text: &str, network: &NetworkId, first: &[String]) -> Result<String, SettingsError> {
    let toml = |error: toml::de::Error| SettingsError::Toml(error.to_string());
    let head: Head = toml::from_str(text).map_err(toml)?;
    if let Some(written) = head.network.filter(|written| written != network.as_str()) {
        let asked = network.clone();
        return Err(SettingsError::OtherNetwork { asked, written });
    }
    let known = head.bootstrap.as_ref().map(Spanned::get_ref);
    let is_new = |address: &&String| known.is_none_or(|known| !known.contains(address));
    let new: Vec<String> = first
        .iter()
        .filter(is_new)
        .map(|address| toml::Value::from(address.as_str()).to_string())
        .collect();
    let mut after = text.to_owned();
    match head.bootstrap {
        // Behind the bracket: what is there may end in a comment.
        Some(list) if !new.is_empty() => {
            after.insert_str(list.span().start + 1, &format!("{}, ", new.join(", ")));
        }
        None if !new.is_empty() => {
            after.insert_str(0, &format!("bootstrap = [{}]\n", new.join(", ")));
        }
        Some(_) | None => {}
    }
    if toml::from_str::<Head>(&after)
        .map_err(toml)?
        .network
        .is_none()
    {
        after.insert_str(0, &format!("network = \"{network}\"\n"));
    }
    toml::from_str::<Config>(&after).map_err(toml)?;
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "/ip4/127.0.0.1/tcp/4810";

    fn join(text: &str) -> Result<String, SettingsError> {
        joined(text, &"home".parse().unwrap(), &[ADDRESS.to_owned()])
    }

    #[test]
    fn an_empty_file_gets_network_and_address() {
        let text = join("").unwrap();
        assert_eq!(
            text,
            format!("network = \"home\"\nbootstrap = [\"{ADDRESS}\"]\n")
        );
        assert_eq!(join(&text).unwrap(), text, "once is enough");
    }

    #[test]
    fn what_people_wrote_stays() {
        let text = "# mine\nbootstrap = [\n  \"/ip4/127.0.0.1/tcp/1\", # office ]\n]\nnetwork = \"home\"\n[terminal]\nslots = 1\n";
        let after = join(text).unwrap();
        let config: Config = toml::from_str(&after).unwrap();
        assert_eq!(config.bootstrap.len(), 2);
        assert_eq!(config.terminal.slots.get(), 1);
        for line in ["# mine\n", "# office ]\n", "[terminal]\n"] {
            assert!(after.contains(line), "{after}");
        }
        let empty = join("bootstrap = []\n[terminal]\n").unwrap();
        let config: Config = toml::from_str(&empty).unwrap();
        assert_eq!(config.bootstrap.len(), 1);
        assert_eq!(config.network.as_str(), "home");
    }

    #[test]
    fn another_network_or_a_broken_file_is_refused() {
        assert!(matches!(
            join("network = \"work\"\n"),
            Err(SettingsError::OtherNetwork { .. })
        ));
        assert!(matches!(join("network = \n"), Err(SettingsError::Toml(_))));
    }
}
