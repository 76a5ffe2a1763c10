//! What a configuration without mistakes may still lack: it is read, and nothing is tried.

use std::time::Duration;

use bytesize::ByteSize;
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::{CONFIGURATION, Finding};
use crate::{
    body::Budget,
    config::{Bucket, Check, Config, Fetch, Kind, Limits},
};

/// After which RabbitMQ takes a delivery back, unless it is told otherwise (`consumer_timeout`).
pub(super) const TIME_OUT: Duration = Duration::from_mins(30);
/// What a job may take beyond its time, to store its manifest and move its message.
pub(super) const MARGIN: Duration = Duration::from_mins(1);

/// The memory that the tree of a JSON text takes, in multiples of the text: the most that is usual, of a transcript
/// with a time for each word.
const TREE: u64 = 22;

/// Judges what the configuration says.
pub fn configuration(config: &Config) -> Vec<Finding> {
    let mut findings = broker(&config.queue.url);
    findings.extend(origins(&config.fetch));
    findings.extend(config.buckets.iter().filter_map(bucket));
    let most = Budget::new(&config.limits).most_work();
    let kinds = config.attachments.iter();
    findings.extend(kinds.filter_map(|kind| tree(kind, &config.limits, most)));
    findings.extend(job_time(config.limits.job_time, TIME_OUT, "by default"));
    findings
}

fn broker(url: &SecretString) -> Vec<Finding> {
    let Ok(url) = Url::parse(url.expose_secret()) else {
        return Vec::new();
    };
    if is_here(&url) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if url.scheme() == "amqp" {
        findings.push(Finding::weak(
            CONFIGURATION,
            "queue.url is amqp://, without TLS, to another machine: the password and all events can be read on the way",
            "use amqps://",
        ));
    }
    if url.username() == "guest" && url.password() == Some("guest") {
        findings.push(Finding::weak(
            CONFIGURATION,
            "queue.url has the user and password that every RabbitMQ begins with",
            "add a user of callvault's own (rabbitmqctl add_user), and set queue.url by CALLVAULT__QUEUE__URL",
        ));
    }
    findings
}

fn origins(fetch: &Fetch) -> Vec<Finding> {
    let mut findings = Vec::new();
    if fetch.allowed_hosts.is_empty() {
        findings.push(Finding::fail(
            CONFIGURATION,
            "fetch.allowed_hosts is empty: no attachment can be downloaded, and every event ends as a dead letter",
            "name the provider's hosts",
        ));
    }
    if fetch.allowed_hosts.iter().any(|host| host == "*") {
        findings.push(Finding::weak(
            CONFIGURATION,
            "fetch.allowed_hosts has \"*\": an event can have any public host downloaded from",
            "in production name the provider's hosts",
        ));
    }
    for (is, key, what) in [
        (
            fetch.allow_http,
            "allow_http",
            "attachments may come over plain http, where others read and change them",
        ),
        (
            fetch.allow_private_addresses,
            "allow_private_addresses",
            "an event can have callvault read from inside your network, and from this machine",
        ),
    ] {
        if is {
            findings.push(Finding::weak(
                CONFIGURATION,
                format!("fetch.{key} is true, which is for development only: {what}"),
                format!("set fetch.{key} = false"),
            ));
        }
    }
    findings
}

fn bucket(bucket: &Bucket) -> Option<Finding> {
    let Bucket { name, url, options } = bucket;
    if url.starts_with("memory:") {
        return Some(Finding::weak(
            CONFIGURATION,
            format!("bucket {name} is in memory: nothing of it outlives the process"),
            "give it the url of a folder or of a store",
        ));
    }
    let option = |wanted: &str| {
        let mut options = options.iter();
        let found = options.find(|(name, _)| {
            let name = name.to_ascii_lowercase();
            name == wanted || name.strip_prefix("aws_") == Some(wanted)
        });
        found.map(|(_, value)| value.expose_secret().trim().to_ascii_lowercase())
    };
    let endpoint = option("endpoint").and_then(|url| Url::parse(&url).ok());
    if endpoint.is_some_and(|url| url.scheme() == "http" && !is_here(&url)) {
        return Some(Finding::weak(
            CONFIGURATION,
            format!("bucket {name} is reached by plain http: recordings can be read on the way"),
            "give its endpoint TLS, and write https://",
        ));
    }
    let anybody = option("allow_invalid_certificates");
    anybody.is_some_and(|anybody| anybody == "true").then(|| {
        Finding::weak(
            CONFIGURATION,
            format!("bucket {name} takes any certificate: anybody on the way can be the store"),
            "leave allow_invalid_certificates out, and add the store's authority with SSL_CERT_FILE",
        )
    })
}

fn tree(kind: &Kind, limits: &Limits, most: u64) -> Option<Finding> {
    let takes = kind.max_size.saturating_mul(TREE);
    if !matches!(kind.check, Check::Json(_)) || takes <= most {
        return None;
    }
    let (name, size) = (&kind.name, ByteSize(kind.max_size));
    // Of which 17/24 are for one check.
    let would_do = ByteSize(kind.max_size.saturating_mul(32));
    let fits = ByteSize(limits.memory / 32);
    Some(Finding::weak(
        CONFIGURATION,
        format!(
            "attachments.{name}: to check {size} of JSON may take {}, and limits.memory leaves {} to it: longer files may be \
             quarantined unread, good or not",
            ByteSize(takes),
            ByteSize(most),
        ),
        format!(
            "set limits.memory to {would_do} or more, or the kind's max_size to {fits} or less"
        ),
    ))
}

/// Whether a job may take longer than the broker waits for its end.
pub(super) fn job_time(job_time: Duration, time_out: Duration, by: &str) -> Option<Finding> {
    (job_time + MARGIN > time_out).then(|| {
        let (job, broker) = (
            humantime::format_duration(job_time),
            humantime::format_duration(time_out),
        );
        Finding::weak(
            CONFIGURATION,
            format!(
                "limits.job_time is {job}, and RabbitMQ takes a delivery back after {broker} {by}: a slow event would be done \
                 again and again"
            ),
            "shorten limits.job_time, or raise the broker's consumer_timeout above it",
        )
    })
}

/// Whether a URL leads to this machine by its looks.
fn is_here(url: &Url) -> bool {
    // Of a scheme that is not the web's the host is not parsed.
    let host = url.host_str().map(Host::parse);
    match host {
        Some(Ok(Host::Domain(name))) => name == "localhost" || name.ends_with(".localhost"),
        Some(Ok(Host::Ipv4(address))) => address.is_loopback(),
        Some(Ok(Host::Ipv6(address))) => address.is_loopback(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(toml: &str) -> Vec<Finding> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("callvault.toml");
        let buckets = "[buckets.documents]\nurl = 'file:a'\n[buckets.recordings]\nurl = 'file:b'\n[buckets.quarantine]\nurl = 'file:c'\n";
        std::fs::write(&file, format!("{toml}\n{buckets}")).unwrap();
        let nothing: [(String, String); 0] = [];
        let (config, mistakes) = Config::load(&file, nothing).unwrap();
        assert!(mistakes.is_empty(), "{mistakes}");
        configuration(&config)
    }

    #[test]
    fn each_weakness_of_a_configuration_is_told_with_its_remedy_and_no_secret() {
        let named = "[fetch]\nallowed_hosts = ['a.example']\n";
        assert_eq!(found(named), []);
        for (toml, detail, mend) in [
            (
                "",
                "fetch.allowed_hosts has \"*\"",
                "name the provider's hosts",
            ),
            (
                "[fetch]\nallowed_hosts = []",
                "every event ends as a dead letter",
                "name the",
            ),
            (
                "[fetch]\nallowed_hosts = ['a.example']\nallow_http = true",
                "allow_http is true, which is for development only",
                "fetch.allow_http = false",
            ),
            (
                "[fetch]\nallowed_hosts = ['a.example']\nallow_private_addresses = true",
                "allow_private_addresses is true, which is for development only",
                "= false",
            ),
            (
                "[queue]\nurl = 'amqp://me:canary@broker.example/%2f'\n[fetch]\nallowed_hosts = ['a.example']",
                "without TLS",
                "amqps://",
            ),
            (
                "[queue]\nurl = 'amqps://guest:guest@broker.example/%2f'\n[fetch]\nallowed_hosts = ['a.example']",
                "that every RabbitMQ begins with",
                "add_user",
            ),
            (
                "[limits]\njob_time = '30m'\n[fetch]\nallowed_hosts = ['a.example']",
                "takes a delivery back after 30m by default",
                "consumer_timeout",
            ),
            (
                "[fetch]\nallowed_hosts = ['a.example']\n[buckets.far]\nurl = 's3://b'\noptions = { endpoint = 'http://s3.example', allow_http = 'true', secret_access_key = 'canary' }",
                "bucket far is reached by plain http",
                "https://",
            ),
            (
                "[fetch]\nallowed_hosts = ['a.example']\n[buckets.far]\nurl = 's3://b'\noptions = { allow_invalid_certificates = 'true' }",
                "takes any certificate",
                "SSL_CERT_FILE",
            ),
            (
                "[fetch]\nallowed_hosts = ['a.example']\n[buckets.gone]\nurl = 'memory:'",
                "nothing of it outlives",
                "folder",
            ),
        ] {
            let found = found(toml);
            assert_eq!(found.len(), 1, "{toml}: {found:?}");
            assert!(found[0].detail.contains(detail), "{found:?}");
            assert!(found[0].mend.contains(mend), "{found:?}");
            assert!(!format!("{found:?}").contains("canary"), "{found:?}");
        }
    }

    #[test]
    fn memory_too_small_for_a_kinds_json_is_told_with_the_number_that_would_do() {
        let hosts = "[fetch]\nallowed_hosts = ['a.example']\n";
        let found_with = |memory: &str| found(&format!("{hosts}[limits]\nmemory = '{memory}'"));
        assert_eq!(found_with("256MiB"), [], "the default");
        let found = found_with("248MiB");
        assert_eq!(found.len(), 2, "both kinds: {found:?}");
        assert!(
            found[0].mend.contains("limits.memory to 256.0 MiB"),
            "{found:?}"
        );
        assert!(
            found[0]
                .detail
                .contains("8.0 MiB of JSON may take 176.0 MiB"),
            "{found:?}"
        );
    }
}
