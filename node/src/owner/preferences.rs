//! `preferences.toml`: read, checked, changed.
//!
//! Invariants: nothing is saved that could not be followed; comments and order of a file that people write stay; a change
//! is whole or not there, whoever else changes the file at the same moment.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tally_protocol::manners::Preferences;
use toml_edit::{Array, DocumentMut, Item, Table, Value, value};

use crate::folder::{Folder, write_whole};

/// The longest file that is read.
const BYTES_MAX: u64 = 256 << 10;
/// How long another change may take.
const LOCK_TIME_MAX: Duration = Duration::from_secs(5);

/// A file for a terminal that computes whatever happens on its computer: in the demo, and in tests.
pub const WHATEVER_HAPPENS: &str = "\
preset = \"full\"
on_battery = true
battery_min = 1
[disk]
free_min = 1
[network]
metered = true
";

/// How the value of a key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A word or a size, in quotes.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
    /// Any number of texts.
    List,
}

/// All keys, as `tally preferences set` names them.
const KEYS: [(&str, Kind); 29] = [
    ("preset", Kind::Text),
    ("run", Kind::Text),
    ("idle_minutes", Kind::Number),
    ("on_battery", Kind::Switch),
    ("battery_min", Kind::Number),
    ("hours", Kind::List),
    ("own_tasks", Kind::Text),
    ("pause_for", Kind::List),
    ("in_use.cpu", Kind::Number),
    ("in_use.memory", Kind::Number),
    ("in_use.others_cpu", Kind::Number),
    ("in_use.up", Kind::Text),
    ("in_use.down", Kind::Text),
    ("idle.cpu", Kind::Number),
    ("idle.memory", Kind::Number),
    ("idle.others_cpu", Kind::Number),
    ("idle.up", Kind::Text),
    ("idle.down", Kind::Text),
    ("disk.max", Kind::Text),
    ("disk.free_min", Kind::Number),
    ("network.metered", Kind::Switch),
    ("network.daily", Kind::Text),
    ("units.memory", Kind::Text),
    ("units.minutes", Kind::Number),
    ("units.only_programs", Kind::List),
    ("units.not_programs", Kind::List),
    ("units.only_customers", Kind::List),
    ("units.not_customers", Kind::List),
    ("units.hourly_min", Kind::Text),
];

/// Why preferences cannot be read or saved.
#[derive(Debug, thiserror::Error)]
pub enum PreferencesError {
    /// There is no such key.
    #[error("set {key}: there is no such preference")]
    Key {
        /// What was named.
        key: String,
        /// The key that was probably meant.
        near: Option<&'static str>,
    },
    /// The value is of another kind.
    #[error("set {key} to {value:?}: it must be {wanted}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What would do.
        wanted: &'static str,
    },
    /// Preferences make no sense, or not together.
    #[error("read {path}\n{reason}")]
    Faulty {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the value.
        reason: String,
    },
    /// The file cannot be read or written.
    #[error("use {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl PreferencesError {
    /// Returns what to do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Key {
                near: Some(near), ..
            } => format!("did you mean {near}?"),
            Self::Key { near: None, .. } => "`tally preferences show` lists all of them".to_owned(),
            Self::Value { .. } | Self::Faulty { .. } => {
                "nothing was changed; docs/preferences.md explains every value".to_owned()
            }
            Self::Io { .. } => "check the rights to the data folder, and its disk".to_owned(),
        }
    }
}

/// The file, and what it said when it was last read.
#[derive(Debug)]
pub struct PreferencesFile {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
}

impl PreferencesFile {
    /// Names the file of a folder.
    #[must_use]
    pub fn of(folder: &Folder) -> Self {
        Self {
            path: folder.preferences(),
            seen: None,
        }
    }

    /// Reads the file if it has changed since this was last asked; without a file the preset `medium` holds.
    ///
    /// # Errors
    /// [`PreferencesError`], once for each change of the file.
    pub fn changed(
        &mut self,
        memory: Option<u64>,
    ) -> Option<Result<Preferences, PreferencesError>> {
        let stamp = std::fs::metadata(&self.path).ok();
        let stamp = stamp.and_then(|found| Some((found.modified().ok()?, found.len())));
        if stamp == self.seen {
            return None;
        }
        self.seen = stamp;
        Some(read(&self.path, memory))
    }

    /// Reads the file for the first time, or again.
    ///
    /// # Errors
    /// [`PreferencesError`].
    pub fn read(&mut self, memory: Option<u64>) -> Result<Preferences, PreferencesError> {
        self.changed(memory)
            .unwrap_or_else(|| read(&self.path, memory))
    }
}

/// Reads preferences; those of the preset `medium` if there is no file.
///
/// # Errors
/// [`PreferencesError`].
pub fn read(path: &Path, memory: Option<u64>) -> Result<Preferences, PreferencesError> {
    check(path, &text_of(path)?, memory)
}

/// Changes some keys of the file: to values, or back to what the preset says if there are none. A key of a list takes any
/// number of them.
///
/// # Errors
/// [`PreferencesError`]; then nothing was changed.
pub fn change(
    folder: &Folder,
    changes: &[(String, Vec<String>)],
    memory: Option<u64>,
) -> Result<Preferences, PreferencesError> {
    let path = folder.preferences();
    let failed = |source| PreferencesError::Io {
        path: path.clone(),
        source,
    };
    let _lock = lock(&folder.root().join("preferences.lock")).map_err(failed)?;
    let text = text_of(&path)?;
    let mut document = document(&path, &text)?;
    for (key, values) in changes {
        put(&mut document, key, values)?;
    }
    let text = document.to_string();
    let preferences = check(&path, &text, memory)?;
    write_whole(&path, text.as_bytes()).map_err(failed)?;
    Ok(preferences)
}

/// Returns the keys that the file names.
///
/// # Errors
/// [`PreferencesError`] if it cannot be read.
pub fn written_keys(path: &Path) -> Result<BTreeSet<String>, PreferencesError> {
    let document = document(path, &text_of(path)?)?;
    let mut keys = BTreeSet::new();
    for (key, item) in document.iter() {
        match item.as_table_like() {
            Some(table) => keys.extend(table.iter().map(|(name, _)| format!("{key}.{name}"))),
            None => drop(keys.insert(key.to_owned())),
        }
    }
    Ok(keys)
}

fn document(path: &Path, text: &str) -> Result<DocumentMut, PreferencesError> {
    let read = text.parse();
    read.map_err(|error: toml_edit::TomlError| PreferencesError::Faulty {
        path: path.to_owned(),
        reason: error.to_string().trim_end().to_owned(),
    })
}

/// Returns the names of all keys.
pub fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(key, _)| *key)
}

/// Makes sure that nobody else changes the file meanwhile.
fn lock(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begin.elapsed() < LOCK_TIME_MAX => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn text_of(path: &Path) -> Result<String, PreferencesError> {
    let failed = |source| PreferencesError::Io {
        path: path.to_owned(),
        source,
    };
    let text = match std::fs::metadata(path) {
        Ok(found) if found.len() > BYTES_MAX => {
            let reason = format!("it has {} bytes, at most {BYTES_MAX} are read", found.len());
            return Err(PreferencesError::Faulty {
                path: path.to_owned(),
                reason,
            });
        }
        Ok(_) => std::fs::read_to_string(path),
        Err(error) => Err(error),
    };
    match text {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(failed),
    }
}

fn check(path: &Path, text: &str, memory: Option<u64>) -> Result<Preferences, PreferencesError> {
    let read = text.parse::<Preferences>();
    let read = read.and_then(|preferences| match memory {
        Some(memory) => preferences.on(memory),
        None => Ok(preferences),
    });
    read.map_err(|reason| PreferencesError::Faulty {
        path: path.to_owned(),
        reason,
    })
}

/// Puts one key into the document, or takes it out.
fn put(document: &mut DocumentMut, key: &str, values: &[String]) -> Result<(), PreferencesError> {
    let Some((_, kind)) = KEYS.iter().find(|(known, _)| *known == key) else {
        return Err(PreferencesError::Key {
            key: key.to_owned(),
            near: near(key),
        });
    };
    let (table, name) = match key.split_once('.') {
        Some((table, name)) => {
            let entry = document.entry(table).or_insert(Item::Table(Table::new()));
            let Some(table) = entry.as_table_like_mut() else {
                return Err(wrong(key, values, "a table in the file"));
            };
            (table, name)
        }
        None => (
            document.as_table_mut() as &mut dyn toml_edit::TableLike,
            key,
        ),
    };
    if values.is_empty() {
        table.remove(name);
        return Ok(());
    }
    let written = written(*kind, key, values)?;
    match table.get_mut(name).and_then(Item::as_value_mut) {
        // What stands around the old value, a comment for example, stays.
        Some(old) => {
            let decor = old.decor().clone();
            *old = written;
            *old.decor_mut() = decor;
        }
        None => {
            table.insert(name, value(written));
        }
    }
    Ok(())
}

fn written(kind: Kind, key: &str, values: &[String]) -> Result<Value, PreferencesError> {
    let one = match values {
        [one] => Some(one.as_str()),
        _ => None,
    };
    let value = match (kind, one) {
        (Kind::List, _) => Some(Value::Array(
            values.iter().map(String::as_str).collect::<Array>(),
        )),
        (Kind::Text, Some(text)) => Some(text.into()),
        (Kind::Number, Some(text)) => text.parse::<i64>().ok().map(Value::from),
        (Kind::Switch, Some(text)) => text.parse::<bool>().ok().map(Value::from),
        (Kind::Text | Kind::Number | Kind::Switch, None) => None,
    };
    value.ok_or_else(|| {
        let wanted = match kind {
            Kind::Text => "one word or size",
            Kind::Number => "one whole number",
            Kind::Switch => "true or false",
            Kind::List => "a list",
        };
        wrong(key, values, wanted)
    })
}

fn wrong(key: &str, values: &[String], wanted: &'static str) -> PreferencesError {
    PreferencesError::Value {
        key: key.to_owned(),
        value: values.join(" "),
        wanted,
    }
}

/// Returns the key that was probably meant: one that ends, or begins, like it.
fn near(key: &str) -> Option<&'static str> {
    let last = key.rsplit('.').next().unwrap_or(key);
    let likely = |known: &&str| {
        let name = known.rsplit('.').next().unwrap_or(known);
        name == last || name.starts_with(last) || last.starts_with(name)
    };
    keys().find(|known| !last.is_empty() && likely(known))
}

#[cfg(test)]
mod tests {
    use tally_protocol::manners::{Preset, When};

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        (dir, folder)
    }

    fn set(folder: &Folder, key: &str, values: &[&str]) -> Result<Preferences, PreferencesError> {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        change(folder, &[(key.to_owned(), values)], Some(16 << 30))
    }

    #[test]
    fn a_change_keeps_comments_and_what_others_have_written() {
        let (_dir, folder) = folder();
        let text = "# mine\nrun = \"always\" # day and night\n\n[idle]\ncpu = 60\n";
        std::fs::write(folder.preferences(), text).unwrap();
        set(&folder, "run", &["idle"]).unwrap();
        set(&folder, "hours", &["mon-fri 18:00-08:00", "sat-sun"]).unwrap();
        let preferences = set(&folder, "in_use.cpu", &["20"]).unwrap();
        assert_eq!(preferences.run, When::Idle);
        let text = std::fs::read_to_string(folder.preferences()).unwrap();
        assert!(
            text.starts_with("# mine\nrun = \"idle\" # day and night\n"),
            "{text}"
        );
        assert_eq!(read(&folder.preferences(), None).unwrap(), preferences);
        set(&folder, "idle.cpu", &[]).unwrap();
        let back = read(&folder.preferences(), None).unwrap();
        assert_eq!(back.idle.cpu, Preferences::of(Preset::Medium).idle.cpu);
    }

    #[test]
    fn what_makes_no_sense_changes_nothing() {
        let (_dir, folder) = folder();
        set(&folder, "preset", &["light"]).unwrap();
        let before = std::fs::read_to_string(folder.preferences()).unwrap();
        for (key, values, says) in [
            ("cpu", &["10"][..], "no such preference"),
            ("in_use.cpu", &["lots"], "\"lots\""),
            ("in_use.cpu", &["90"], "in_use.cpu is 90 %"),
            ("on_battery", &["maybe"], "true or false"),
            ("run", &["idle", "always"], "idle always"),
            ("units.memory", &["8 GiB"], "8192 MiB"),
        ] {
            let error = set(&folder, key, values).unwrap_err();
            assert!(error.to_string().contains(says), "{key}: {error}");
            assert!(!error.hint().is_empty());
            assert_eq!(
                std::fs::read_to_string(folder.preferences()).unwrap(),
                before
            );
        }
        let error = set(&folder, "cpu", &["10"]).unwrap_err();
        assert_eq!(error.hint(), "did you mean in_use.cpu?");
    }

    #[test]
    fn every_key_can_be_set_and_unset() {
        let (_dir, folder) = folder();
        for (key, kind) in &KEYS {
            let value = match (*key, kind) {
                ("preset", _) => "full",
                ("run", _) => "always",
                ("own_tasks", _) => "only",
                ("hours", _) => "sat-sun",
                ("units.hourly_min", _) => "1.5",
                (_, Kind::Switch) => "true",
                (_, Kind::Number) => "30",
                (_, Kind::Text) => "64 MiB",
                (key, Kind::List) if key.ends_with("programs") => {
                    &tally_protocol::id::BlobId::of(b"").to_string()
                }
                (key, Kind::List) if key.ends_with("customers") => {
                    "12D3KooWBhcGPnuXtZhc6gFT3VaKUuVMDBT9KKmvNfbsYWy5ZeHh"
                }
                (_, Kind::List) => "vlc",
            };
            set(&folder, key, &[value]).unwrap_or_else(|error| panic!("{key}: {error}"));
            set(&folder, key, &[]).unwrap();
        }
        assert_eq!(
            read(&folder.preferences(), None).unwrap(),
            Preferences::default()
        );
    }

    #[test]
    fn a_file_is_read_when_it_has_changed() {
        let (_dir, folder) = folder();
        let mut file = PreferencesFile::of(&folder);
        assert!(
            file.changed(None).is_none(),
            "there is none, and none was seen"
        );
        set(&folder, "run", &["never"]).unwrap();
        assert_eq!(file.changed(None).unwrap().unwrap().run, When::Never);
        assert!(file.changed(None).is_none());
        std::fs::write(folder.preferences(), "run = \n").unwrap();
        assert!(file.changed(None).unwrap().is_err());
        assert!(file.changed(None).is_none(), "told once");
        std::fs::remove_file(folder.preferences()).unwrap();
        assert_eq!(file.changed(None).unwrap().unwrap(), Preferences::default());
    }

    #[test]
    fn two_who_change_at_once_lose_nothing() {
        let (_dir, folder) = folder();
        std::thread::scope(|threads| {
            for (key, value) in [
                ("idle.cpu", "70"),
                ("idle.memory", "70"),
                ("idle_minutes", "9"),
            ] {
                let folder = &folder;
                threads.spawn(move || set(folder, key, &[value]).unwrap());
            }
        });
        let preferences = read(&folder.preferences(), None).unwrap();
        let read = (preferences.idle.cpu.get(), preferences.idle.memory.get());
        assert_eq!((read, preferences.idle_minutes), ((70, 70), 9));
    }
}
