//! Metadata of objects and words of errors: printable, short, and without what a URL hides.

use std::fmt;

use callvault::{metadata, telemetry};
use percent_encoding::percent_decode_str;

const LIMIT: usize = 2000;
const NAMES: [&str; 6] = [
    "call_id",
    "request_id",
    "kind",
    "agent_id",
    "conversation_id",
    "sha256",
];

pub(crate) fn target(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    fits(&text);
    if let Some(kept) = metadata::media_type(&text) {
        assert!(kept == text && kept.len() <= 255 && kept.bytes().all(printable));
    }
    tells_no_secret(&text);
}

fn fits(text: &str) {
    let values = NAMES
        .into_iter()
        .zip(text.split('\n'))
        .map(|(name, value)| (name, value.to_owned()));
    let values: Vec<_> = values.collect();
    let fit = metadata::fit(values.clone());
    let total: usize = fit
        .iter()
        .map(|(name, value)| "x-amz-meta-".len() + name.len() + value.len())
        .sum();
    assert!(total <= LIMIT, "{total}");
    assert_eq!(fit.len(), values.len());
    for ((name, value), (same, encoded)) in values.iter().zip(&fit) {
        assert_eq!(name, same);
        let decoded = percent_decode_str(encoded).decode_utf8();
        let decoded = decoded.unwrap_or_else(|_| panic!("{encoded:?}"));
        assert!(value.starts_with(&*decoded), "{value:?} became {encoded:?}");
        // A header loses the spaces around its value.
        assert!(
            encoded.bytes().all(printable) && encoded == encoded.trim(),
            "{encoded:?}"
        );
        // Only what is among the longest is cut, less a character's escapes and a space.
        let room = LIMIT / NAMES.len() - "x-amz-meta-conversation_id".len();
        assert!(
            *decoded == **value || encoded.len() + 13 >= room,
            "{value:?} became {encoded:?}"
        );
    }
}

/// Whatever else stands in an error, a URL's user information, path and query do not.
fn tells_no_secret(text: &str) {
    // Of the secrets themselves only the URL has any.
    let keep = |kept: &dyn Fn(char) -> bool| -> String {
        let kept = text.chars().filter(|c| kept(*c) && !"34".contains(*c));
        kept.collect()
    };
    let plain = keep(&|c| c.is_ascii_alphanumeric() || " :,.-_'\"()[]<>".contains(c));
    let (before, after) = plain.split_at(plain.len() / 2);
    let rest = keep(&|c| c.is_ascii_graphic() && !"\"<>".contains(c));
    let words = format!(
        "{before} \"https://user:s3cret{}@h.example/p4th{rest}?sig=s3cret\" {after}",
        rest.replace(['/', '?', '#'], "")
    );
    let told = telemetry::chain(&Words(words));
    assert!(told.len() <= 603 && !told.contains('\n'), "{told}");
    assert!(!told.contains("s3cret") && !told.contains("p4th"), "{told}");
}

fn printable(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte)
}

#[derive(Debug)]
struct Words(String);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Words {}
