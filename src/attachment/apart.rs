//! Attachments kept apart from manifests, whatever their event says.
//!
//! Every configuration's manifests lie at `{date}/{call_id}/{request_id}/manifest.json`. In a folder a name
//! is a file or a folder: an attachment whose key leads through a manifest's, or ends where a manifest's
//! leads through, would keep that manifest from being written for ever. Values of an event can bring that
//! about under a template that is deeper or shallower than manifests' keys: an event's own file name, or the
//! ids of two events that were made for it.

use super::MANIFEST;
use crate::event::Id;

/// What is put before a segment: no identifier begins with it, so no other event comes to the same key.
const MARK: char = '_';
/// The segments of a manifest's key.
const DEPTH: usize = 6;

/// The key, changed where it would be in the way of some event's manifest.
pub(super) fn apart(key: String) -> String {
    let segments: Vec<&str> = key.split('/').collect();
    if segments.len() == DEPTH || !leads_to_a_manifest(&segments) {
        return key;
    }
    // The one that makes it so: the manifest's name or, on the way to one, the first.
    let marked = if segments.len() > DEPTH { DEPTH - 1 } else { 0 };
    let mut apart: Vec<String> = segments.into_iter().map(Into::into).collect();
    if let Some(segment) = apart.get_mut(marked) {
        segment.insert(0, MARK);
    }
    apart.join("/")
}

/// The key that [`apart`] changed into this one, if it did.
pub(super) fn together(key: &str) -> Option<String> {
    let segments: Vec<&str> = key.split('/').collect();
    let marked = if segments.len() > DEPTH { DEPTH - 1 } else { 0 };
    let mut together: Vec<&str> = segments.clone();
    let segment = together.get_mut(marked)?;
    *segment = segment.strip_prefix(MARK)?;
    let together = together.join("/");
    (apart(together.clone()) == key).then_some(together)
}

/// Whether a key is the beginning of a manifest's, or goes on after one.
fn leads_to_a_manifest(segments: &[&str]) -> bool {
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    segments
        .iter()
        .take(DEPTH)
        .enumerate()
        .all(|(at, segment)| match at {
            0 => digits(segment, 4),
            1 | 2 => digits(segment, 2),
            3 | 4 => Id::new(segment).is_some(),
            _ => *segment == MANIFEST,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_key_in_the_way_of_a_manifest_is_changed() {
        for (key, changed) in [
            ("2023/08/24/c/r/recording.wav", None),
            ("2023/08/24/c/manifest.json/recording.wav", None),
            ("2023/08/24/acme/c/r/recording.wav", None),
            (
                "2023/08/24/c/r/manifest.json/a.wav",
                Some("2023/08/24/c/r/_manifest.json/a.wav"),
            ),
            ("2023/08/24/c/manifest.json/r/a.wav", None),
            ("x/2023/08/24/c/manifest.json/a.wav", None),
            ("2023/08/24/c/_r/manifest.json/a.wav", None),
            ("2023/08/24/c/r", Some("_2023/08/24/c/r")),
            ("2023/08/24", Some("_2023/08/24")),
            ("c/r/2023-08-24-a.wav", None),
        ] {
            assert_eq!(apart(key.into()), changed.unwrap_or(key));
            if let Some(changed) = changed {
                assert_eq!(together(changed).as_deref(), Some(key));
            }
            assert_eq!(together(key), None);
        }
    }
}
