//! Signed notes (C2SP signed-note): a text, an empty line, and a line for each signature.
//!
//! ```text
//! the text, which ends with a newline
//!
//! — name base64(key id || signature)
//! ```
//!
//! Signatures cover the text as it stands, so a note is kept as it was received. A name and a key id name a key; the
//! lines of other keys mean nothing here, and there may be some: other keys of the signer, or witnesses.

use data_encoding::BASE64;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// The longest note in bytes: room for 16 signatures of the largest kind there is, of nearly 5,000 bytes each.
pub const NOTE_BYTES_MAX: usize = 128 << 10;
/// The most signatures of a note: what every reader has to accept.
pub const SIGNATURES_MAX: usize = 16;

/// What a signature line starts with: an em dash and a space.
const SIGNATURE_START: &str = "\u{2014} ";
/// The signature type of Ed25519.
const ED25519: u8 = 0x01;
/// Bytes of a key id.
const KEY_ID_BYTES: usize = 4;

/// Why a text is not a note.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// More bytes than a note may have.
    #[error("read a note of {bytes} bytes, at most {NOTE_BYTES_MAX} are allowed")]
    TooLong {
        /// How many there are.
        bytes: usize,
    },
    /// It breaks a rule of the format.
    #[error("read a note: {0}")]
    Malformed(&'static str),
    /// None of its signatures is by the key that counts.
    #[error("read a note: it is not signed by {0:?}")]
    Unsigned(String),
    /// A signature by the key that counts is wrong.
    #[error("read a note: the signature of {0:?} is wrong")]
    Signature(String),
}

/// A note whose signatures were not checked, borrowed from its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note<'a> {
    text: &'a str,
    signatures: Vec<NoteSignature<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct NoteSignature<'a> {
    name: &'a str,
    key_id: [u8; KEY_ID_BYTES],
    signature: Vec<u8>,
}

/// A key that signs notes under a name.
#[derive(Debug, Clone, Copy)]
pub struct NoteKey<'a> {
    name: &'a str,
    key: &'a [u8; 32],
}

impl<'a> Note<'a> {
    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError::TooLong`] or [`NoteError::Malformed`].
    pub fn parse(note: &'a str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong { bytes: note.len() });
        }
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Malformed("it has control characters"));
        }
        let end = note
            .rfind("\n\n")
            .ok_or(NoteError::Malformed("no empty line ends its text"))?;
        let (text, lines) = (&note[..=end], &note[end + 2..]);
        let lines = lines
            .strip_suffix('\n')
            .ok_or(NoteError::Malformed("its last line is no signature line"))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == SIGNATURES_MAX {
                return Err(NoteError::Malformed("it has too many signatures"));
            }
            let signature = NoteSignature::parse(line)
                .ok_or(NoteError::Malformed("a line is no signature line"))?;
            signatures.push(signature);
        }
        Ok(Self { text, signatures })
    }

    /// Returns the text, which may only be believed once it is verified.
    #[must_use]
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// Checks that `key` has signed the text. Lines of other keys are passed over.
    ///
    /// # Errors
    /// [`NoteError::Unsigned`] or [`NoteError::Signature`].
    pub fn verify(&self, key: &NoteKey<'_>) -> Result<(), NoteError> {
        let key_id = key.id();
        let mut known = self
            .signatures
            .iter()
            .filter(|line| line.name == key.name && line.key_id == key_id)
            .peekable();
        if known.peek().is_none() {
            return Err(NoteError::Unsigned(key.name.to_owned()));
        }
        let wrong = || NoteError::Signature(key.name.to_owned());
        let public = VerifyingKey::from_bytes(key.key).map_err(|_| wrong())?;
        for line in known {
            let signature = Signature::from_slice(&line.signature).map_err(|_| wrong())?;
            public
                .verify_strict(self.text.as_bytes(), &signature)
                .map_err(|_| wrong())?;
        }
        Ok(())
    }
}

impl<'a> NoteSignature<'a> {
    /// Reads a line without its newline.
    fn parse(line: &'a str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(SIGNATURE_START)?.split_once(' ')?;
        let bytes = BASE64.decode(encoded.as_bytes()).ok()?;
        let (key_id, signature) = bytes.split_first_chunk()?;
        (is_key_name(name) && !signature.is_empty()).then(|| Self {
            name,
            key_id: *key_id,
            signature: signature.to_vec(),
        })
    }
}

impl<'a> NoteKey<'a> {
    /// Takes a key and the name it signs under.
    #[must_use]
    pub const fn new(name: &'a str, key: &'a [u8; 32]) -> Self {
        Self { name, key }
    }

    /// Returns the key id: the first bytes of `SHA-256(name || "\n" || 0x01 || key)`.
    #[must_use]
    pub fn id(&self) -> [u8; KEY_ID_BYTES] {
        let hash = Sha256::new()
            .chain_update(self.name)
            .chain_update([b'\n', ED25519])
            .chain_update(self.key)
            .finalize();
        let [a, b, c, d, ..] = hash.0;
        [a, b, c, d]
    }
}

/// Returns whether `name` can be the name of a key.
fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+')
}

/// Signs `text` under `name`, and returns the note.
///
/// # Panics
/// If the text does not end with a newline, or the name cannot be one.
#[must_use]
pub fn sign(text: &str, name: &str, key: &SigningKey) -> String {
    assert!(
        text.ends_with('\n') && is_key_name(name),
        "a note has whole lines and a name without spaces"
    );
    let public = key.verifying_key().to_bytes();
    let mut bytes = NoteKey::new(name, &public).id().to_vec();
    bytes.extend_from_slice(&key.sign(text.as_bytes()).to_bytes());
    format!(
        "{text}\n{SIGNATURE_START}{name} {}\n",
        BASE64.encode(&bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The note of the specification, and the key of its author as he wrote it: name, key id, type and key.
    const PUBLISHED: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    const PUBLISHED_KEY: &str =
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[1; 32])
    }

    fn verify(note: &str) -> Result<(), NoteError> {
        let public = key().verifying_key().to_bytes();
        Note::parse(note)?.verify(&NoteKey::new("example.com/log", &public))
    }

    fn signed() -> String {
        sign("first\n\nlast\n", "example.com/log", &key())
    }

    #[test]
    fn reads_the_note_of_another_implementation() {
        let mut parts = PUBLISHED_KEY.splitn(3, '+');
        let (name, id, encoded) = (
            parts.next().unwrap(),
            parts.next().unwrap(),
            parts.next().unwrap(),
        );
        let bytes = BASE64.decode(encoded.as_bytes()).unwrap();
        assert_eq!(bytes[0], ED25519);
        let public = bytes[1..].try_into().unwrap();
        let key = NoteKey::new(name, &public);
        assert_eq!(data_encoding::HEXLOWER.encode(&key.id()), id);
        assert_eq!(Note::parse(PUBLISHED).unwrap().verify(&key), Ok(()));
    }

    #[test]
    fn a_signed_text_is_read_back_and_every_flipped_bit_is_noticed() {
        let note = signed();
        assert_eq!(Note::parse(&note).unwrap().text(), "first\n\nlast\n");
        assert_eq!(verify(&note), Ok(()));
        for bit in 0..note.len() * 8 {
            let mut bytes = note.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(verify(&changed).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn lines_of_other_keys_mean_nothing() {
        let (text, line) = (signed(), "\u{2014} witness.example AAAAAGFiYw==\n");
        assert_eq!(verify(&format!("{text}{line}")), Ok(()));
        // The same name with another key id.
        let other = SigningKey::from_bytes(&[2; 32]);
        let theirs = sign("first\n\nlast\n", "example.com/log", &other);
        let their_line = theirs.rsplit_once("\n\n").unwrap().1;
        assert_eq!(verify(&format!("{text}{their_line}")), Ok(()));
        let unsigned = NoteError::Unsigned("example.com/log".to_owned());
        assert_eq!(verify(&theirs), Err(unsigned.clone()));
        assert_eq!(verify(&format!("first\n\n{line}")), Err(unsigned));
        let many = line.repeat(SIGNATURES_MAX - 1);
        assert_eq!(verify(&format!("{text}{many}")), Ok(()));
        let too_many = verify(&format!("{text}{many}{line}"));
        assert!(matches!(too_many, Err(NoteError::Malformed(_))));
    }

    #[test]
    fn one_wrong_signature_of_the_key_spoils_the_note() {
        let other = sign("other\n", "example.com/log", &key());
        let line = other.rsplit_once("\n\n").unwrap().1;
        let wrong = NoteError::Signature("example.com/log".to_owned());
        assert_eq!(verify(&format!("{}{line}", signed())), Err(wrong.clone()));
        let id = NoteKey::new("example.com/log", &key().verifying_key().to_bytes()).id();
        let short = BASE64.encode(&[&id[..], b"short"].concat());
        let note = format!("first\n\n\u{2014} example.com/log {short}\n");
        assert_eq!(verify(&note), Err(wrong));
    }

    #[test]
    fn what_breaks_the_format_is_refused() {
        let line = "\u{2014} a.example AAAAAGFiYw==";
        for note in [
            String::new(),
            "text\n".to_owned(),
            "text\n\n".to_owned(),
            format!("text\n\n{line}"),
            format!("text\n{line}\n"),
            format!("te\txt\n\n{line}\n"),
            format!("text\r\n\n{line}\n"),
            "text\n\n\u{2014} a.example\n".to_owned(),
            "text\n\n- a.example AAAAAGFiYw==\n".to_owned(),
            "text\n\n\u{2014} a+b AAAAAGFiYw==\n".to_owned(),
            "text\n\n\u{2014} a\u{2003}b AAAAAGFiYw==\n".to_owned(),
            "text\n\n\u{2014}  AAAAAGFiYw==\n".to_owned(),
            "text\n\n\u{2014} a.example AAAAAGFiYw\n".to_owned(),
            "text\n\n\u{2014} a.example AAAAAGFiYx==\n".to_owned(),
            "text\n\n\u{2014} a.example AAAAAA==\n".to_owned(),
            format!("text\n\n{line}\n{line} \n"),
        ] {
            let refused = Note::parse(&note);
            assert!(matches!(refused, Err(NoteError::Malformed(_))), "{note:?}");
        }
        let long = "x".repeat(NOTE_BYTES_MAX + 1);
        assert!(matches!(Note::parse(&long), Err(NoteError::TooLong { .. })));
    }
}
