//! What may be said of an error, in logs, reports and headers: one line, bounded, with nothing in it that is
//! a credential, a stranger's page or an order to a terminal.

use std::{error::Error, fmt::Write, iter};

use serde_json::Value;

/// The longest error in one line, in bytes.
const LONGEST: usize = 600;

/// An error and its causes in one line. Of URLs only scheme and host are left: user information and
/// queries can be credentials, and file names whatever the event's sender pleased.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    for cause in iter::successors(Some(error), |&error| error.source()) {
        let cause = without_page(cause.to_string());
        // Many errors repeat their cause in their own message.
        if !words.last().is_some_and(|last| last.contains(&cause)) {
            words.push(cause);
        }
    }
    one_line(&words.join(": "))
}

/// A text that others had a hand in, as it may be told.
pub fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line = plain(&hosts_only(&words));
    if line.len() > LONGEST {
        line.truncate(line.floor_char_boundary(LONGEST));
        line.push('…');
    }
    line
}

/// A text on a terminal: what would move the cursor, colour the screen or turn the reading direction is
/// shown as its number.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) {
            let _ = write!(plain, "\\u{{{:x}}}", u32::from(c));
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Control characters, the eight-bit ones among them; line separators; what is invisible or turns the
/// direction. All of them are in the basic plane.
pub fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn hosts_only(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, from) = rest.split_at(at + "://".len());
        clean.push_str(before);
        // Commas, brackets and quotes may stand in a URL; at its end they are the sentence's.
        let stop = |c: char| c.is_whitespace() || matches!(c, '"' | '>' | '<');
        let word = &from[..from.find(stop).unwrap_or(from.len())];
        let url = word.trim_end_matches([',', ')', '\'', ';', ':', '.']);
        let after = &from[url.len()..];
        let authority_ends = url.find(['/', '?', '#']).unwrap_or(url.len());
        let authority = &url[..authority_ends];
        clean.push_str(authority.rsplit('@').next().unwrap_or(authority));
        if authority_ends < url.len() {
            clean.push_str("/…");
        }
        rest = after;
    }
    clean.push_str(rest);
    clean
}

/// What the stores' client writes before the page that a store answered with: to the end of the message.
const BEFORE_A_PAGE: [&str; 2] = [
    "Server returned non-2xx status code: ",
    "Server returned error response: ",
];

/// A store's page repeats what it was asked with: of a bad signature the text that was signed and the key's
/// name, of an expired token (S3's `Token-0`) the whole token. Its code and its message say what is wrong.
fn without_page(mut text: String) -> String {
    let found = BEFORE_A_PAGE
        .iter()
        .find_map(|before| Some(text.find(before)? + before.len()));
    if let Some(from) = found {
        // 403 Forbidden: <?xml …
        let status = text[from..].find(": ").filter(|at| *at < 40);
        let page = from + status.map_or(0, |at| at + 2);
        let told = code_and_message(&text[page..]).join(": ");
        text.truncate(page);
        text.push_str(&told);
    }
    text
}

fn code_and_message(page: &str) -> Vec<String> {
    let named = |name: &str| {
        let from = page.split_once(&format!("<{name}>"))?.1;
        Some(from.split_once(&format!("</{name}>"))?.0.to_owned())
    };
    if page.trim_start().starts_with('<') {
        return ["Code", "Message"].into_iter().filter_map(named).collect();
    }
    // Token endpoints (RFC 6749, section 5.2), and Google's and Azure's own form of it.
    let page: Value = serde_json::from_str(page).unwrap_or_default();
    let text = |pointer: &str| Some(page.pointer(pointer)?.as_str()?.to_owned());
    [
        "/error",
        "/error_description",
        "/error/code",
        "/error/message",
    ]
    .into_iter()
    .filter_map(text)
    .collect()
}

#[cfg(test)]
mod tests {
    use std::{fmt, io};

    use super::*;

    #[test]
    fn of_a_url_in_an_error_scheme_and_host_are_left() {
        for (text, clean) in [
            (
                "PUT https://u:pw@a.example:1/k?sig=s failed: why?",
                "PUT https://a.example:1/… failed: why?",
            ),
            (
                "see \"http://b/+1424/x\", (amqp://c)",
                "see \"http://b/…\", (amqp://c)",
            ),
            ("https://u:p,w@h/k?x=a,b&sig=s: no", "https://h/…: no"),
            ("no URL: a/b?c", "no URL: a/b?c"),
        ] {
            assert_eq!(hosts_only(text), clean);
        }
    }

    #[test]
    fn what_a_terminal_or_a_log_obeys_is_shown_as_a_number() {
        let hostile = "a\u{1b}[2J\u{9b}31m\u{0}\u{202e}b\r\n\t\u{2028}c";
        assert_eq!(
            one_line(hostile),
            r"a\u{1b}[2J\u{9b}31m\u{0}\u{202e}b c",
            "lines and tabs are blanks"
        );
        assert_eq!(plain("a\r\n\u{2066}ü"), r"a\u{d}\u{a}\u{2066}ü");
    }

    #[test]
    fn a_line_is_bounded_wherever_it_is_cut() {
        for hostile in ["ü\u{1b}".repeat(500_000), "\u{202e}".repeat(700)] {
            let line = one_line(&hostile);
            assert!(line.len() <= LONGEST + '…'.len_utf8(), "{}", line.len());
        }
    }

    #[derive(Debug)]
    struct Wrapped(&'static str, Option<io::Error>);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_ref().map(|error| error as _)
        }
    }

    #[test]
    fn of_a_stores_page_code_and_message_are_left() {
        let before = "Server returned non-2xx status code: 403 Forbidden: ";
        for (page, told) in [
            (
                "<?xml version=\"1.0\"?><Error><Code>InvalidToken</Code>\n<Message>The provided token is malformed.</Message>\
                 <Token-0>canary</Token-0><AWSAccessKeyId>canary</AWSAccessKeyId><StringToSign>canary: canary</StringToSign></Error>",
                "InvalidToken: The provided token is malformed.",
            ),
            (
                r#"{"error": "invalid_grant", "error_description": "no such account", "client_secret": "canary"}"#,
                "invalid_grant: no such account",
            ),
            (
                r#"{"error": {"code": 403, "message": "no right", "details": "canary"}}"#,
                "no right",
            ),
            ("<html><title>canary</title></html>", ""),
            ("canary: canary", ""),
            ("", ""),
        ] {
            let inner = io::Error::other(format!("{before}{page}"));
            let outer: &'static str = format!("PUT failed - {inner}").leak();
            let said = chain(&Wrapped(outer, Some(inner)));
            assert_eq!(said, format!("PUT failed - {before}{told}").trim_end());
        }
    }
}
