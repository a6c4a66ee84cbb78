//! Lines of at most [`COLUMNS`] columns for people, with nothing in them that moves a cursor.

use std::fmt::Write as _;

use tally_protocol::id::NodeId;
use tally_protocol::task::BlobRef;
use tally_protocol::time::Timestamp;

/// The width of a terminal window that is as it always was.
pub const COLUMNS: usize = 80;
/// Characters of `2026-01-31 23:59:59`.
pub(super) const TIME_CHARS: usize = 19;
/// Columns of a name before its value.
const NAME_COLUMNS: usize = 11;
/// The longest value that is shown whole.
const VALUE_CHARS_MAX: usize = 4_000;
/// How many nodes a table names before it only counts them.
const NODES_NAMED: usize = 1;

/// Text under construction.
#[derive(Default)]
pub(crate) struct Text(String);

impl Text {
    pub(crate) fn into_string(self) -> String {
        self.0
    }

    /// Adds a line, cut to the width of the page.
    pub(crate) fn line(&mut self, line: &str) {
        let line = fit(line.trim_end(), COLUMNS);
        writeln!(self.0, "{line}").expect("writing to a string cannot fail");
    }

    /// Adds a named value, on as many lines as it needs.
    pub(crate) fn field(&mut self, name: &str, value: &str) {
        let (mut name, mut rest) = (name, fit(value, VALUE_CHARS_MAX));
        if rest.is_empty() {
            rest.push('-');
        }
        while !rest.is_empty() {
            let behind = rest.split_off(line_end(&rest, COLUMNS.saturating_sub(NAME_COLUMNS)));
            self.line(&format!("{name:<NAME_COLUMNS$}{rest}"));
            (name, rest) = ("", behind.trim_start().to_owned());
        }
    }
}

/// The widths of columns of amounts, which stand at the right end of a line.
pub(super) struct Columns<const N: usize>([usize; N]);

impl<const N: usize> Columns<N> {
    /// Makes the columns as wide as their widest amount, and at least as wide as their heads.
    pub(super) fn of<'a>(
        heads: [&str; N],
        rows: impl Iterator<Item = &'a [String; N]> + Clone,
    ) -> Self {
        let mut widths = heads.map(str::len);
        for (column, width) in widths.iter_mut().enumerate() {
            let longest = rows.clone().map(|row| row[column].chars().count()).max();
            *width = longest.unwrap_or(0).max(*width);
        }
        Self(widths)
    }

    /// Adds a name and its amounts; on two lines if one is too short.
    pub(super) fn line(&self, text: &mut Text, name: &str, amounts: &[String; N]) {
        let mut right = String::new();
        for (amount, width) in amounts.iter().zip(self.0) {
            right.push_str(&format!("  {amount:>width$}"));
        }
        let room = COLUMNS.saturating_sub(right.chars().count());
        if room < name.chars().count() {
            text.line(name);
            text.line(&format!("{:room$}{right}", ""));
        } else {
            text.line(&format!("{name:<room$}{right}"));
        }
    }
}

/// Returns where to break the text: behind the last space of the first `chars` characters, or after them.
fn line_end(text: &str, chars: usize) -> usize {
    let Some((end, _)) = text.char_indices().nth(chars) else {
        return text.len();
    };
    text[..end]
        .rfind(' ')
        .filter(|space| *space > 0)
        .unwrap_or(end)
}

/// Returns the text without what could move the cursor of a terminal.
fn plain(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
}

/// Returns the text, cut to `chars` characters.
pub(super) fn fit(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return plain(text).collect();
    }
    let mut cut: String = plain(text).take(chars.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

pub(super) fn time(at: Timestamp) -> String {
    at.to_string()
        .chars()
        .take(TIME_CHARS)
        .map(|c| if c == 'T' { ' ' } else { c })
        .collect()
}

pub(super) fn blob(blob: &BlobRef) -> String {
    format!("{} {}B", blob.id.short(), scaled(blob.bytes))
}

pub(super) fn nodes(nodes: &[NodeId]) -> String {
    let named: Vec<String> = nodes.iter().take(NODES_NAMED).map(NodeId::short).collect();
    match nodes.len().saturating_sub(NODES_NAMED) {
        0 => named.join(" "),
        more => format!("{} +{more}", named.join(" ")),
    }
}

/// Returns a number with three digits or four, and the letter of its thousands: `999`, `12.3k`, `1.23G`.
pub(super) fn scaled(number: u64) -> String {
    const LETTERS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let thousands = LETTERS.len().min(grouped(number).split(',').count());
    let digits = number.to_string();
    let lead = grouped(number).split(',').next().map_or(0, str::len);
    let letter = LETTERS[thousands.saturating_sub(1)];
    if thousands == 1 {
        return digits;
    }
    let fraction: String = digits
        .chars()
        .skip(lead)
        .take(3_usize.saturating_sub(lead))
        .collect();
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction}{letter}", &digits[..lead])
}

/// Returns a number with a comma at each thousand.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits are ASCII"))
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(scaled(999), "999");
        assert_eq!(scaled(1_000), "1.00k");
        assert_eq!(scaled(12_345), "12.3k");
        assert_eq!(scaled(999_999_999), "999M");
        assert_eq!(scaled(u64::MAX), "18.4E");
    }

    #[test]
    fn nothing_in_a_text_moves_the_cursor() {
        assert_eq!(fit("a\x1b[2Jb", 10), "a\u{fffd}[2Jb");
        assert_eq!(fit("abcdef", 4), "abc…");
    }
}
