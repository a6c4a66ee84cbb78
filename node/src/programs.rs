//! The programs that come with Tally. Their sources are in `node/programs`.

use std::sync::LazyLock;

use tally_protocol::id::BlobId;

/// A program by name.
#[derive(Debug, Clone, Copy)]
pub struct Builtin {
    /// The name in a job file.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// The module.
    pub module: &'static [u8],
}

/// All programs.
pub const BUILTINS: [Builtin; 3] = [
    Builtin {
        name: "gaussian-blur",
        about: "blurs image tiles; --radius R [--sigma S]",
        module: include_bytes!("../programs/prebuilt/gaussian-blur.wasm"),
    },
    Builtin {
        name: "wordcount",
        about: "counts words as `LC_ALL=C wc -w` does",
        module: include_bytes!("../programs/prebuilt/wordcount.wasm"),
    },
    Builtin {
        name: "prime-count",
        about: "counts primes of `LO HI` in its lines",
        module: include_bytes!("../programs/prebuilt/prime-count.wasm"),
    },
];

/// Returns the program called `name`.
#[must_use]
pub fn builtin(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|program| program.name == name)
}

/// Returns what a program is called: its name if it comes with Tally, else the start of its hash.
#[must_use]
pub fn name_of(program: BlobId) -> String {
    static IDS: LazyLock<[BlobId; BUILTINS.len()]> =
        LazyLock::new(|| BUILTINS.map(|builtin| BlobId::of(builtin.module)));
    let known = BUILTINS.iter().zip(&*IDS).find(|(_, id)| **id == program);
    known.map_or_else(|| program.short(), |(builtin, _)| builtin.name.to_owned())
}
