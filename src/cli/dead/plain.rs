//! Text of strangers on a terminal: what would move the cursor, colour the screen or turn the reading
//! direction is shown as its number.

use std::{fmt::Write, io::IsTerminal};

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

/// How many columns the terminal has that is printed to, where it is one. `COLUMNS` has its way, as in other programs.
pub(super) fn columns() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let told = std::env::var("COLUMNS")
        .ok()
        .and_then(|told| told.parse().ok());
    let size = || Some(rustix::termios::tcgetwinsize(&stdout).ok()?.ws_col.into());
    told.or_else(size).filter(|columns| *columns > 0)
}

/// A line in lines of at most so many characters, broken between words where that can be.
pub(super) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = Vec::new();
    let (mut line, mut length) = (String::new(), 0);
    for word in text.split_whitespace() {
        let mut left = word;
        loop {
            let room = columns
                - if length == 0 {
                    0
                } else {
                    (length + 1).min(columns)
                };
            let chars = left.chars().count();
            if chars <= room {
                if length > 0 {
                    line.push(' ');
                    length += 1;
                }
                line.push_str(left);
                length += chars;
                break;
            }
            if length > 0 {
                lines.push(std::mem::take(&mut line));
                length = 0;
                continue;
            }
            let end = left
                .char_indices()
                .nth(columns)
                .map_or(left.len(), |(at, _)| at);
            lines.push(left[..end].to_owned());
            left = &left[end..];
        }
    }
    if length > 0 {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_broken_between_words_and_a_long_word_where_it_must() {
        for (text, columns, lines) in [
            ("", 5, &[][..]),
            ("one two three", 7, &["one two", "three"]),
            ("one two three", 80, &["one two three"]),
            ("äöüäöü x", 4, &["äöüä", "öü x"]),
            ("a bcdefg", 3, &["a", "bcd", "efg"]),
            ("ab", 0, &["a", "b"]),
        ] {
            assert_eq!(wrapped(text, columns), lines, "{text} in {columns}");
        }
    }

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
