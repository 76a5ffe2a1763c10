//! The XML in which S3 and Google Cloud Storage answer.

use std::io;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, de::DeserializeOwned};

/// An answer's XML, or why it is not what was asked for.
pub(super) fn read<T: DeserializeOwned>(body: &Bytes, root: &str) -> Result<T, String> {
    let text = String::from_utf8_lossy(body);
    // A server that does not know the question may answer another one: a list of objects, say.
    if !text.contains(&format!("<{root}")) {
        return Err(format!("it does not answer with a {root}"));
    }
    quick_xml::de::from_str(&text).map_err(|error| format!("its {root} cannot be read: {error}"))
}

/// Percent-decoded, the way S3 encodes keys: spaces as pluses.
pub(super) fn decode(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

/// A time as the stores write it.
pub(super) fn time(text: &str) -> io::Result<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text);
    let time = time.map_err(|error| io::Error::other(format!("its time {text:?}: {error}")))?;
    Ok(time.to_utc())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Page {
    pub(super) encoding_type: Option<String>,
    #[serde(default)]
    pub(super) is_truncated: String,
    #[serde(default)]
    pub(super) next_key_marker: String,
    #[serde(default)]
    pub(super) next_upload_id_marker: String,
    #[serde(default, rename = "Upload")]
    pub(super) list: Vec<Entry>,
}

impl Page {
    pub(super) const ROOT: &str = "ListMultipartUploadsResult";
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) upload_id: String,
    pub(super) initiated: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Parts {
    #[serde(default)]
    pub(super) is_truncated: String,
    #[serde(default)]
    pub(super) next_part_number_marker: String,
    #[serde(default, rename = "Part")]
    pub(super) list: Vec<Part>,
}

impl Parts {
    pub(super) const ROOT: &str = "ListPartsResult";
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Part {
    pub(super) last_modified: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) code: String,
}

impl Refusal {
    pub(super) const ROOT: &str = "Error";
}
