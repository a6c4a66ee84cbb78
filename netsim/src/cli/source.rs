//! Where a scenario comes from: the program itself, or a file.

use std::path::Path;

use tally_netsim::scenario::Scenario;
use tally_netsim::scenario::shipped;

use super::failure::Failure;

/// Reads the scenario of this name, else the file. Its name is then what was asked for, so that a command that
/// repeats it finds it.
pub(super) fn scenario(name: &str) -> Result<Scenario, Failure> {
    if let Some(shipped) = shipped::find(name) {
        return Ok(shipped.scenario()?);
    }
    let is_path = name.contains(std::path::MAIN_SEPARATOR) || name.ends_with(".toml");
    if !is_path && !Path::new(name).is_file() {
        let near = shipped::near(name);
        let hint = if near.is_empty() {
            "`netsim list` shows the scenarios there are; a file is named by its path".to_owned()
        } else {
            format!("there is {}; `netsim list` shows all", near.join(", "))
        };
        return Err(Failure::new(
            format!("find the scenario {name:?}: there is no such name and no such file"),
            hint,
        ));
    }
    let text = std::fs::read_to_string(name).map_err(|error| {
        Failure::new(
            format!("read {name}: {error}"),
            "`netsim list` shows the scenarios that need no file",
        )
    })?;
    Scenario::parse(name, &text).map_err(|error| {
        Failure::new(
            format!("use {name}: failed to {error}"),
            "docs/netsim.md explains every key of a scenario",
        )
    })
}
