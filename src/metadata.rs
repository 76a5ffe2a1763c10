//! User metadata of objects, made fit for the headers in which stores carry it.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What is percent-encoded beside all that is not ASCII. `%` itself, so that decoding is unambiguous.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// Names and values together, in bytes, with the prefix that S3 puts before each name: S3 and Azure
/// refuse more than 2 KB.
const LIMIT: usize = 2000;
const PREFIX: usize = "x-amz-meta-".len();

/// Encodes values and cuts the longest until all fit. Without this, a newline in an agent's name
/// would end a header, and non-ASCII would break the request's signature.
pub fn fit(values: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
    // First each by itself, so that the rest is little work however long an event's text is.
    let encode = |(name, value): (&'static str, String)| {
        let mut encoded = encode(&value[..value.floor_char_boundary(LIMIT)]);
        cut(&mut encoded, LIMIT);
        (name, encoded)
    };
    let mut values: Vec<_> = values.into_iter().map(encode).collect();
    while let Some(excess) = excess(&values) {
        // The longest loses what is too much, but not more than makes it as short as the next.
        let mut lengths: Vec<_> = values.iter().map(|(_, value)| value.len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        let (longest, next) = (lengths[0], lengths.get(1).copied().unwrap_or(0));
        let keep = longest - excess.min((longest - next).max(1));
        if let Some((_, value)) = values.iter_mut().find(|(_, value)| value.len() == longest) {
            cut(value, keep);
        }
    }
    values
}

/// A media type that may stand in a header, or nothing: an event's word may be any text.
pub fn media_type(text: &str) -> Option<String> {
    let fits =
        (1..=255).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    fits.then(|| text.to_owned())
}

fn excess(values: &[(&str, String)]) -> Option<usize> {
    let total: usize = values
        .iter()
        .map(|(name, value)| PREFIX + name.len() + value.len())
        .sum();
    total.checked_sub(LIMIT).filter(|excess| *excess > 0)
}

/// Printable ASCII stays; so does a single space inside, but not where headers lose spaces.
fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        if c == ' ' && (at == 0 || at == last || encoded.ends_with(' ')) {
            encoded.push_str("%20");
        } else {
            encoded.extend(utf8_percent_encode(c.encode_utf8(&mut [0; 4]), ENCODED));
        }
    }
    encoded
}

/// Cuts encoded text to at most `keep` bytes, not through an escape or a character's escapes' middle, nor
/// behind a space, which headers lose.
fn cut(value: &mut String, keep: usize) {
    if value.len() <= keep {
        return;
    }
    value.truncate(keep);
    if let Some(percent) = value.rfind('%')
        && percent + 3 > value.len()
    {
        value.truncate(percent);
    }
    let decoded: Vec<u8> = percent_decode_str(value).collect();
    if let Err(error) = std::str::from_utf8(&decoded) {
        // Of the last character some bytes are missing; of those that are there each has an escape.
        let escapes = decoded.len() - error.valid_up_to();
        value.truncate(value.len() - "%00".len() * escapes);
    }
    value.truncate(value.trim_end().len());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_printable_ascii_and_decode_to_what_they_were() {
        for (value, encoded) in [
            ("cd1c82f0-a276", "cd1c82f0-a276"),
            ("100%", "100%25"),
            ("café\r\nX-Evil: 1", "caf%C3%A9%0D%0AX-Evil: 1"),
            (" a  b ", "%20a %20b%20"),
        ] {
            assert_eq!(fit(vec![("k", value.into())])[0].1, encoded);
        }
    }

    #[test]
    fn the_longest_values_are_cut_first() {
        let values = fit(vec![
            ("a", "x".repeat(5000)),
            ("b", "short".into()),
            ("c", "%".repeat(1000)),
        ]);
        assert_eq!(values[1].1, "short");
        assert!(excess(&values).is_none());
        assert!(
            values[0].1.len().abs_diff(values[2].1.len()) <= 3,
            "{values:?}"
        );
    }

    #[test]
    fn no_value_is_cut_through_a_character_or_behind_a_space() {
        for (value, keep, kept) in [
            ("ab%C3%A9", 8, "ab%C3%A9"),
            ("ab%C3%A9", 7, "ab"),
            ("ab%C3%A9", 5, "ab"),
            ("%F0%9F%93%9E%C3%A9", 17, "%F0%9F%93%9E"),
            ("%F0%9F%93%9E", 11, ""),
            ("a b", 2, "a"),
        ] {
            let mut cut_value = value.to_owned();
            cut(&mut cut_value, keep);
            assert_eq!(cut_value, kept, "{value} at {keep}");
        }
    }

    proptest! {
        #[test]
        fn whatever_an_event_says_its_metadata_fits(a in ".{0,3000}", b in ".{0,3000}", c in "\\PC{0,50}") {
            let values = fit(vec![("a", a), ("b", b), ("c", c)]);
            prop_assert!(excess(&values).is_none());
            for (_, value) in values {
                prop_assert!(value.bytes().all(|b| (0x20..0x7f).contains(&b)));
            }
        }
    }
}
