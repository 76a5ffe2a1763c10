//! The effective configuration, as anybody may see it: each key with its value, and where that is from.
//!
//! What may be a secret is not shown. Of the stores' options only those that are known to be none are: a name that
//! is not in the list here is hidden, whatever it means.

use std::{fmt, time::Duration};

use bytesize::ByteSize;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{Bucket, Check, Config, Kind, Place, Sources, Tenant, WavLimits, tree::join};

/// What stands for a secret.
const HIDDEN: &str = "(hidden)";
/// Items of a list, and tenants, that are shown.
const MOST: usize = 20;
/// The longest value that is shown, in characters.
const LONGEST: usize = 300;

/// Options of stores that hold an address.
const ADDRESSES: [&str; 5] = [
    "base_url",
    "endpoint",
    "endpoint_url",
    "azure_storage_endpoint",
    "google_base_url",
];
/// Options of stores that hold a name or a number.
const NAMES: [&str; 12] = [
    "account_name",
    "azure_storage_account_name",
    "checksum_algorithm",
    "conditional_put",
    "connect_timeout",
    "default_region",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "read_timeout",
    "region",
    "server_side_encryption",
    "timeout",
];

/// One key of the effective configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// As between the brackets in the file: `queue`, `buckets.recordings`.
    pub section: String,
    /// The key within.
    pub key: String,
    /// What it is set to, without secrets.
    pub value: String,
    /// Where that is from.
    pub from: SetBy,
}

/// Where a value is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetBy {
    /// Nobody set it.
    Nobody,
    /// This line of the file.
    Line(usize),
    /// This environment variable.
    Variable(String),
}

impl fmt::Display for SetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("default"),
            Self::Line(line) => write!(f, "line {line}"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

impl Config {
    /// All that is set, and all defaults, in the order of the manual.
    pub fn shown(&self) -> Vec<Shown> {
        let mut show = Show {
            sources: &self.sources,
            shown: Vec::new(),
        };
        show.queue(self);
        show.fetch(self);
        show.archive(self);
        for bucket in &self.buckets {
            show.bucket(bucket);
        }
        for kind in &self.attachments {
            show.kind(kind);
        }
        for (index, tenant) in self.tenants.iter().take(MOST).enumerate() {
            show.tenant(index, tenant);
        }
        if let Some(more @ 1..) = self.tenants.len().checked_sub(MOST) {
            show.add("tenants", "more", format!("{more} tables more"));
        }
        show.limits(self);
        show.add("http", "listen", self.http.listen);
        show.shown
    }
}

struct Show<'a> {
    sources: &'a Sources,
    shown: Vec<Shown>,
}

impl Show<'_> {
    fn add(&mut self, section: &str, key: &str, value: impl fmt::Display) {
        let path = join(section, key);
        let from = match self.sources.locate(&path) {
            Place::Line { line, .. } if self.sources.is_set(&path) => SetBy::Line(line),
            Place::Variable(name) if self.sources.is_set(&path) => SetBy::Variable(name),
            _ => SetBy::Nobody,
        };
        self.shown.push(Shown {
            section: section.to_owned(),
            key: key.to_owned(),
            value: short(&value.to_string()),
            from,
        });
    }

    fn queue(&mut self, config: &Config) {
        let queue = &config.queue;
        self.add("queue", "url", broker(&queue.url));
        self.add("queue", "exchange", &queue.exchange);
        self.add("queue", "routing_keys", list(&queue.routing_keys));
        self.add("queue", "name", &queue.name);
        self.add("queue", "prefetch", queue.prefetch);
        let delays: Vec<_> = queue.retry_delays.iter().copied().map(time).collect();
        self.add("queue", "retry_delays", list(&delays));
        self.add("queue", "declare", queue.declare);
    }

    fn fetch(&mut self, config: &Config) {
        let fetch = &config.fetch;
        self.add("fetch", "allowed_hosts", list(&fetch.allowed_hosts));
        self.add("fetch", "allow_http", fetch.allow_http);
        let private = fetch.allow_private_addresses;
        self.add("fetch", "allow_private_addresses", private);
        self.add("fetch", "connect_timeout", time(fetch.connect_timeout));
        self.add("fetch", "read_timeout", time(fetch.read_timeout));
        self.add("fetch", "max_redirects", fetch.max_redirects);
        self.add("fetch", "refusals", fetch.refusals);
    }

    fn archive(&mut self, config: &Config) {
        let archive = &config.archive;
        self.add("archive", "key", &archive.key);
        self.add("archive", "manifest_bucket", &archive.manifest_bucket);
        self.add("archive", "quarantine_bucket", &archive.quarantine_bucket);
        self.add("archive", "include_event", archive.include_event);
    }

    fn bucket(&mut self, bucket: &Bucket) {
        let section = join("buckets", &bucket.name);
        self.add(&section, "url", &bucket.url);
        let options = join(&section, "options");
        for (name, value) in &bucket.options {
            self.add(&options, name, option(name, value));
        }
    }

    fn kind(&mut self, kind: &Kind) {
        let section = join("attachments", &kind.name);
        self.add(&section, "file", &kind.file);
        match &kind.check {
            Check::None => self.add(&section, "check", "none"),
            Check::Wav(WavLimits {
                channels,
                sample_rates_hz,
            }) => {
                self.add(&section, "check", "wav");
                let wav = join(&section, "wav");
                if let Some(channels) = channels {
                    self.add(&wav, "channels", list(channels));
                }
                if let Some(rates) = sample_rates_hz {
                    self.add(&wav, "sample_rates_hz", list(rates));
                }
            }
            Check::Json(schema) => {
                self.add(&section, "check", "json");
                if let Some(schema) = schema {
                    self.add(&section, "schema", &schema.origin);
                }
            }
        }
        self.add(&section, "bucket", &kind.bucket);
        self.add(&section, "max_size", size(kind.max_size));
    }

    fn tenant(&mut self, index: usize, tenant: &Tenant) {
        let section = format!("tenants[{index}]");
        self.add(&section, "organization_id", &tenant.organization_id);
        let buckets = join(&section, "buckets");
        for (from, to) in tenant.buckets.iter().take(MOST) {
            self.add(&buckets, from, to);
        }
    }

    fn limits(&mut self, config: &Config) {
        let limits = &config.limits;
        self.add("limits", "memory", size(limits.memory));
        self.add("limits", "spool", size(limits.spool));
        self.add("limits", "spool_dir", limits.spool_dir.display());
        self.add("limits", "job_time", time(limits.job_time));
    }
}

/// Where the broker is, without who is known there: an account's name helps who guesses passwords.
fn broker(url: &SecretString) -> String {
    let Ok(mut url) = Url::parse(url.expose_secret()) else {
        return HIDDEN.to_owned();
    };
    if url.username().is_empty() && url.password().is_none() {
        return url.into();
    }
    // Neither fails where there is a host, and there is no other broker's URL.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return HIDDEN.to_owned();
    }
    url.as_str().replacen("://", &format!("://{HIDDEN}@"), 1)
}

fn option(name: &str, value: &SecretString) -> String {
    let (name, value) = (name.to_ascii_lowercase(), value.expose_secret());
    let plain = name.strip_prefix("aws_").unwrap_or(&name);
    let shown = if ADDRESSES.contains(&plain) {
        // A path or a query may be a signature.
        Url::parse(value)
            .ok()
            .map(|url| url.origin().ascii_serialization())
            .filter(|origin| origin != "null")
    } else if NAMES.contains(&plain) {
        is_name(value).then(|| value.to_owned())
    } else {
        // A secret that reads `true` is none.
        matches!(value, "true" | "false").then(|| value.to_owned())
    };
    shown.unwrap_or_else(|| HIDDEN.to_owned())
}

/// A region, an account, a duration; keys and tokens are longer, or have other characters in them.
fn is_name(value: &str) -> bool {
    let fine =
        |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b':' | b' ');
    (1..=32).contains(&value.len()) && value.bytes().all(fine)
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    let shown = items.iter().take(MOST).map(ToString::to_string);
    let more = items.len().saturating_sub(MOST);
    let more = (more > 0).then(|| format!("and {more} more"));
    shown.chain(more).collect::<Vec<_>>().join(", ")
}

fn time(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

fn size(bytes: u64) -> ByteSize {
    ByteSize(bytes)
}

fn short(value: &str) -> String {
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    const FILE: &str = r#"[queue]
url = "amqps://canary-user:canary-password@broker.example:5671/%2f?heartbeat=15"
prefetch = 8

[buckets.documents]
url = "file:archive/documents"

[buckets.recordings]
url = "s3://acme-recordings/calls"
[buckets.recordings.options]
region = "eu-central-1"
endpoint = "https://canary-user:canary-password@store.example:8333/canary-path?canary=canary"
access_key_id = "canaryid"
secret_access_key = "canarykey"
unsigned_payload = "true"
session_token = "canarytoken"
unknown_to_us = "canary"

[buckets.quarantine]
url = "memory:"
options = { account_name = "canary/with+signs=", region = "CanaryCanary" }
"#;

    fn shown(file: &str, environment: &[(&str, &str)]) -> Vec<Shown> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("callvault.toml");
        fs::write(&path, file).unwrap();
        load(&path, environment).shown()
    }

    fn load(path: &Path, environment: &[(&str, &str)]) -> Config {
        let (config, mistakes) = Config::load(path, environment.iter().copied()).unwrap();
        assert!(mistakes.is_empty(), "{mistakes}");
        config
    }

    #[track_caller]
    fn assert_shown(shown: &[Shown], section: &str, key: &str, value: &str, from: &str) {
        let of_it = |shown: &&Shown| shown.section == section && shown.key == key;
        let found = shown.iter().find(of_it).unwrap();
        assert_eq!(
            (found.value.as_str(), found.from.to_string().as_str()),
            (value, from)
        );
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let shown = shown(
            FILE,
            &[("CALLVAULT__BUCKETS__RECORDINGS__OPTIONS__TOKEN", "canary")],
        );
        let all = format!("{shown:?}");
        assert!(!all.to_lowercase().contains("canary"), "{all}");
        let recordings = "buckets.recordings.options";
        assert_shown(&shown, recordings, "secret_access_key", HIDDEN, "line 14");
        assert_shown(
            &shown,
            recordings,
            "endpoint",
            "https://store.example:8333",
            "line 12",
        );
        let variable = "CALLVAULT__BUCKETS__RECORDINGS__OPTIONS__TOKEN";
        assert_shown(&shown, recordings, "token", HIDDEN, variable);
        let url = "amqps://(hidden)@broker.example:5671/%2f?heartbeat=15";
        assert_shown(&shown, "queue", "url", url, "line 2");
    }

    #[test]
    fn each_value_tells_where_it_is_from() {
        let shown = shown(
            FILE,
            &[
                ("CALLVAULT__QUEUE__NAME", "night"),
                ("CALLVAULT__LIMITS", "{ job_time = \"5m\" }"),
            ],
        );
        assert_shown(&shown, "queue", "prefetch", "8", "line 3");
        assert_shown(&shown, "queue", "name", "night", "CALLVAULT__QUEUE__NAME");
        assert_shown(
            &shown,
            "queue",
            "retry_delays",
            "10s, 1m, 10m, 1h, 6h",
            "default",
        );
        assert_shown(&shown, "limits", "job_time", "5m", "CALLVAULT__LIMITS");
        assert_shown(&shown, "limits", "memory", "256.0 MiB", "default");
        assert_shown(&shown, "attachments.recording", "check", "wav", "default");
        let recordings = "buckets.recordings.options";
        assert_shown(&shown, recordings, "region", "eu-central-1", "line 11");
        assert_shown(&shown, recordings, "unsigned_payload", "true", "line 15");
    }

    #[test]
    fn the_manual_is_shown_key_by_key_and_as_long_as_a_person_reads() {
        let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/callvault.toml");
        let nothing: [(&str, &str); 0] = [];
        let mut config = load(&manual, &nothing);
        let set = config
            .shown()
            .iter()
            .filter(|shown| shown.from != SetBy::Nobody)
            .count();
        let text = fs::read_to_string(&manual).unwrap();
        let keys = text
            .lines()
            .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
        assert_eq!(set, keys.count(), "{:#?}", config.shown());
        config.fetch.allowed_hosts = vec!["h".repeat(250); 10_000];
        config.tenants = (0..1000)
            .map(|_| Tenant {
                organization_id: "o".to_owned(),
                buckets: [("a".to_owned(), "b".to_owned())].into(),
            })
            .collect();
        let shown = config.shown();
        assert!(shown.len() < 200, "{}", shown.len());
        assert!(
            shown
                .iter()
                .all(|shown| shown.value.chars().count() <= LONGEST + 1)
        );
        assert_shown(&shown, "tenants", "more", "980 tables more", "default");
    }
}
