//! Text of strangers on a terminal: what would move the cursor, colour the screen or turn the reading
//! direction is shown as its number.

use std::fmt::Write;

use serde::Serialize;

use crate::{cli::say, telemetry::is_obeyed};

/// One line.
pub(super) use crate::telemetry::plain as line;

/// A text that may have lines and tabs; bytes that are not UTF-8 are shown as numbers.
pub(super) fn lines(bytes: &[u8]) -> String {
    let mut plain = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for piece in chunk.valid().split_inclusive(['\n', '\t']) {
            let end = piece.trim_end_matches(['\n', '\t']);
            plain.push_str(&line(end));
            plain.push_str(&piece[end.len()..]);
        }
        for byte in chunk.invalid() {
            let _ = write!(plain, "\\x{byte:02x}");
        }
    }
    plain
}

/// One line of a `--json` report. JSON itself escapes only a part of what a terminal obeys; what is
/// escaped here reads the same.
pub(super) fn tell(report: &impl Serialize) {
    if let Ok(json) = serde_json::to_string(report) {
        let mut plain = String::with_capacity(json.len());
        for c in json.chars() {
            if is_obeyed(c) {
                let _ = write!(plain, "\\u{:04x}", u32::from(c));
            } else {
                plain.push(c);
            }
        }
        say(&plain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown_as_a_number() {
        let hostile = "a\u{1b}[2J\u{9b}31m\u{202e}b\r\n\tü";
        assert_eq!(
            line(hostile),
            "a\\u{1b}[2J\\u{9b}31m\\u{202e}b\\u{d}\\u{a}\\u{9}ü"
        );
        assert_eq!(lines(b"a\n\tb\x1b\xff\xc3"), "a\n\tb\\u{1b}\\xff\\xc3");
    }
}
