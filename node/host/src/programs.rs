//! Which programs of a list run, by the names in `/proc/*/comm`.

use std::collections::BTreeSet;
use std::path::Path;

use crate::Unknown;
use crate::files::{read, why};

/// Most programs that are looked for: more than a person lists by hand.
pub const PROGRAMS_MAX: usize = 64;
/// The kernel keeps that many bytes of a name.
const NAME_BYTES_MAX: usize = 15;
/// Most processes that are looked at, so that a computer with very many does not cost more than others.
const PROCESSES_MAX: usize = 32_768;

/// Returns those of `wanted` that run, in the order of `wanted`.
pub(crate) fn running(proc: &Path, wanted: &[String]) -> Result<Vec<String>, Unknown> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let short: BTreeSet<&[u8]> = wanted.iter().map(|name| kept(name)).collect();
    let mut found = BTreeSet::new();
    let processes = std::fs::read_dir(proc).map_err(|error| why(error.kind()))?;
    let processes = processes
        .flatten()
        .filter(|entry| is_number(entry.file_name().as_encoded_bytes()));
    for process in processes.take(PROCESSES_MAX) {
        // Whoever ended meanwhile does not run.
        let Ok(name) = read(&process.path().join("comm")) else {
            continue;
        };
        if let Some(name) = short.get(name.trim_end_matches('\n').as_bytes()) {
            found.insert(*name);
            if found.len() == short.len() {
                break;
            }
        }
    }
    Ok(wanted
        .iter()
        .filter(|name| found.contains(kept(name)))
        .cloned()
        .collect())
}

fn kept(name: &str) -> &[u8] {
    let bytes = name.as_bytes();
    bytes.get(..NAME_BYTES_MAX).unwrap_or(bytes)
}

fn is_number(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn programs_are_found_by_the_name_that_the_kernel_keeps() {
        let proc = tempfile::tempdir().unwrap();
        for (id, name) in [
            ("1", "systemd"),
            ("22", "steam"),
            ("333", "a-program-with-"),
        ] {
            fs::create_dir(proc.path().join(id)).unwrap();
            fs::write(proc.path().join(id).join("comm"), format!("{name}\n")).unwrap();
        }
        fs::create_dir(proc.path().join("44")).unwrap();
        fs::create_dir(proc.path().join("obs")).unwrap();
        fs::write(proc.path().join("obs/comm"), "obs\n").unwrap();
        let wanted = ["a-program-with-a-long-name", "obs", "steam", "Steam"].map(str::to_owned);
        let expected = vec!["a-program-with-a-long-name".to_owned(), "steam".to_owned()];
        assert_eq!(running(proc.path(), &wanted), Ok(expected));
        assert_eq!(running(proc.path(), &[]), Ok(Vec::new()));
        assert_eq!(
            running(&proc.path().join("no"), &wanted),
            Err(Unknown::Absent)
        );
    }

    #[test]
    fn this_process_runs() {
        let own = fs::read_to_string("/proc/self/comm").unwrap();
        let wanted = [own.trim_end().to_owned()];
        assert_eq!(running(Path::new("/proc"), &wanted), Ok(wanted.to_vec()));
    }
}
