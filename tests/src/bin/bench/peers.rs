//! Runs Ray, Dask and Pillow, by `tests/bench/peers/peers.sh`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::progress;
use crate::report::Figures;

/// Measures the peers; `more` are further arguments of the script.
pub(crate) async fn measure(name: &str, more: &[&str]) -> Result<BTreeMap<String, Figures>> {
    progress(&format!("{name}: measuring the peers"));
    let mut arguments = vec![name, "--json"];
    arguments.extend(more);
    let said = run(&arguments).await?;
    let line = said.lines().last().context("read the peers' figures")?;
    let measured: BTreeMap<String, BTreeMap<String, Value>> =
        serde_json::from_str(line).context("read the peers' figures")?;
    let numbers = |figures: BTreeMap<String, Value>| {
        let numbers = figures
            .into_iter()
            .filter_map(|(figure, value)| Some((figure, value.as_f64()?)));
        numbers.collect::<Figures>()
    };
    let peers = measured.into_iter();
    Ok(peers
        .map(|(peer, figures)| (peer, numbers(figures)))
        .collect())
}

/// Makes the picture of the image benchmark, once.
pub(crate) async fn picture() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = cache
        .or(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("tally");
    let path = folder.join("bench-24-megapixels.png");
    if path.exists() {
        return Ok(path);
    }
    progress("image: making a picture of 24 megapixels, once");
    std::fs::create_dir_all(&folder)?;
    let half_done = folder.join(format!("bench-picture-{}.png", std::process::id()));
    let source = crate_folder().join("../node/assets/astronaut.png");
    let (from, to) = (
        source.display().to_string(),
        half_done.display().to_string(),
    );
    run(&["make-image", &from, &to]).await?;
    std::fs::rename(&half_done, &path)?;
    Ok(path)
}

async fn run(arguments: &[&str]) -> Result<String> {
    let script = crate_folder().join("bench/peers/peers.sh");
    let output = Command::new(&script)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = output
        .await
        .with_context(|| format!("start {}", script.display()))?;
    ensure!(
        output.status.success(),
        "run {}: {}",
        script.display(),
        output.status
    );
    String::from_utf8(output.stdout).context("read what the peers said")
}

/// Returns the folder of this crate.
pub(crate) fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
