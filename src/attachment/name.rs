//! File names out of hostile URLs, fit for an object key.

use std::collections::{HashMap, HashSet};

use percent_encoding::percent_decode_str;
use url::Url;

use super::MANIFEST;

/// The longest file name that [`safe`] makes, in bytes.
const LONGEST: usize = 128;

/// The last segment of a URL's path, percent-decoded once (never twice: `%252e` stays `%2e`).
pub(super) fn last_segment(url: &Url) -> String {
    let segment = url
        .path_segments()
        .and_then(|mut all| all.next_back())
        .unwrap_or_default();
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

/// A name made of `[A-Za-z0-9._-]`, without a leading dot, of 1 to 128 bytes: whatever a URL said, it
/// stays one segment of a key, names no hidden file and does not climb.
pub(super) fn safe(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let replaced: String = name
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect();
    let visible = replaced.trim_start_matches('.');
    if visible.is_empty() {
        return "file".into();
    }
    let (stem, extension) = split(visible);
    let room = LONGEST.saturating_sub(extension.len());
    if visible.len() <= LONGEST {
        visible.into()
    } else if room == 0 {
        // "Extension" of a name that is nothing but one.
        visible[..LONGEST].into()
    } else {
        format!("{}{extension}", &stem[..room.min(stem.len())])
    }
}

/// Whether a text is a name that [`safe`] may have made, also of a kind or an agent.
pub(super) fn is_safe(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !text.is_empty() && !text.starts_with('.') && text.bytes().all(allowed)
}

/// The key that was wanted where [`Taken`] gave this one, if it is one with a number.
pub(super) fn unnumbered(key: &str) -> Option<String> {
    let at = key.rfind('/').map_or(0, |slash| slash + 1);
    let (folder, file) = key.split_at(at);
    let (stem, extension) = split(file);
    let (stem, number) = stem.rsplit_once('-')?;
    let counted = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    counted.then(|| format!("{folder}{stem}{extension}"))
}

/// The keys of one event, each given to one attachment.
#[derive(Debug, Default)]
pub(super) struct Taken {
    keys: HashSet<String>,
    /// For a key that was wanted before, the number to try next: an event may want the same one
    /// many thousands of times.
    next: HashMap<String, u64>,
}

impl Taken {
    /// Takes the first of `wanted`, `wanted` with `-2` before its extension, with `-3`, … that is free.
    /// A manifest's name never is.
    pub(super) fn take(&mut self, wanted: String) -> String {
        let at = wanted.rfind('/').map_or(0, |slash| slash + 1);
        let (folder, file) = wanted.split_at(at);
        if file != MANIFEST && self.keys.insert(wanted.clone()) {
            return wanted;
        }
        let (stem, extension) = split(file);
        let mut number = self.next.get(&wanted).copied().unwrap_or(2);
        let free = loop {
            let candidate = format!("{folder}{stem}-{number}{extension}");
            number += 1;
            if self.keys.insert(candidate.clone()) {
                break candidate;
            }
        };
        self.next.insert(wanted, number);
        free
    }
}

/// A file name before and from its last dot; a name that only starts with a dot has no extension.
fn split(file: &str) -> (&str, &str) {
    match file.rfind('.') {
        Some(dot) if dot > 0 => file.split_at(dot),
        _ => (file, ""),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(url: &str) -> String {
        safe(&last_segment(&Url::parse(url).unwrap()))
    }

    #[test]
    fn a_name_is_the_last_segment_made_safe() {
        for (url, name) in [
            (
                "https://h/organization_x/calls/y/recording.wav",
                "recording.wav",
            ),
            ("https://h/a/recording.wav?sig=x/y.z#f/g", "recording.wav"),
            ("https://h/a/call%20one.wav", "call_one.wav"),
            (
                "https://h/a/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
                "_.._etc_passwd",
            ),
            ("https://h/a/%252e%252e", "_2e_2e"),
            ("https://h/a/..%5c..%5cboot.ini", "_.._boot.ini"),
            ("https://h/a/.htaccess", "htaccess"),
            ("https://h/a/...", "file"),
            ("https://h/a/", "file"),
            ("https://h", "file"),
            ("https://h/a/%00%0a.wav", "__.wav"),
            ("https://h/a/%ff%fe", "__"),
            ("https://h/a/aufnahme-ü.wav", "aufnahme-_.wav"),
        ] {
            assert_eq!(named(url), name, "{url}");
        }
    }

    #[test]
    fn a_long_name_is_cut_and_keeps_its_extension() {
        let name = safe(&format!("{}.wav", "a".repeat(500)));
        assert_eq!((name.len(), &name[120..]), (128, "aaaa.wav"));
        assert_eq!(safe(&format!("a.{}", "b".repeat(500))).len(), 128);
    }

    #[test]
    fn a_taken_key_gets_a_number_before_its_extension() {
        let mut taken = Taken::default();
        for (wanted, key) in [
            ("d/c/r/recording.wav", "d/c/r/recording.wav"),
            ("d/c/r/recording.wav", "d/c/r/recording-2.wav"),
            ("d/c/r/recording-2.wav", "d/c/r/recording-2-2.wav"),
            ("d/c/r/recording.wav", "d/c/r/recording-3.wav"),
            ("d.x/c/r/file", "d.x/c/r/file"),
            ("d.x/c/r/file", "d.x/c/r/file-2"),
            ("d/c/r/manifest.json", "d/c/r/manifest-2.json"),
        ] {
            assert_eq!(taken.take(wanted.into()), key);
        }
    }

    #[test]
    fn many_attachments_of_one_name_take_no_longer_than_as_many_others() {
        let mut taken = Taken::default();
        let last = (0..200_000)
            .map(|_| taken.take("c/r/recording.wav".into()))
            .last();
        assert_eq!(last.unwrap(), "c/r/recording-200000.wav");
    }

    proptest! {
        #[test]
        fn a_safe_name_is_one_visible_segment(name in "\\PC{0,300}") {
            let name = safe(&name);
            prop_assert!((1..=LONGEST).contains(&name.len()));
            prop_assert!(!name.starts_with('.'));
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
        }
    }
}
