//! Text of strangers on a terminal: what would move the cursor, colour the screen or turn the reading
//! direction is shown as its number.

use std::fmt::Write;

use serde::Serialize;

use crate::cli::say;

/// One line.
pub(super) fn line(text: &str) -> String {
    escaped(text, |_| false)
}

/// A text that may have lines and tabs; bytes that are not UTF-8 are shown as numbers.
pub(super) fn lines(bytes: &[u8]) -> String {
    let mut plain = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        plain.push_str(&escaped(chunk.valid(), |c| matches!(c, '\n' | '\t')));
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

fn escaped(text: &str, allowed: impl Fn(char) -> bool) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) && !allowed(c) {
            let _ = write!(plain, "\\u{{{:x}}}", u32::from(c));
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Control characters, the eight-bit ones among them; line separators; what is invisible or turns the
/// direction. All of them are in the basic plane.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
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
