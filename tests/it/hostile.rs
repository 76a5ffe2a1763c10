//! Servers that misbehave, each in its own way, against the real program.
//!
//! One table in several files: what a server does on the wire, and what becomes of the attachment that it
//! was asked for. All rows are archived side by side by one `callvault archive`, each as an event of its
//! own. The kind of the attachments is unchecked, so that a body which is none is not saved by its check.

#![allow(clippy::too_many_lines, reason = "a table is as long as it is")]

mod bodies;
mod chunks;
mod heads;
mod lengths;
mod redirects;
mod reuse;
mod row;
mod shared;
mod silence;
mod statuses;
mod stored;
mod tls;

use std::{collections::BTreeSet, fs, path::PathBuf, process::Output};

use bytes::Bytes;
use serde_json::{Value, json};

use self::row::{Expect, Row};
use crate::support::{
    call,
    config::{BUCKETS, Setup},
    script::{Seen, Server},
    worker,
};

/// User information and a query that must not come back from anywhere.
const CANARY: &str = "canary-7f3a";
/// The largest attachment, in bytes.
const MOST: usize = 1 << 20;
/// The headers of every request, and no others: no `Cookie`, no `Authorization`, no `Referer`.
const HEADERS: [&str; 4] = ["accept", "accept-encoding", "host", "user-agent"];

/// Folders, no broker, one kind of attachment, and all events at once.
fn setup() -> Setup {
    let mut setup = Setup::new("amqp://127.0.0.1:1/%2f");
    for bucket in BUCKETS {
        setup.append(&format!(
            "[buckets.{bucket}]\nurl = \"file:archive/{bucket}\"\n"
        ));
    }
    setup
        .append(
            "[attachments.file]\nfile = \"*\"\ncheck = \"none\"\nbucket = \"recordings\"\nmax_size = \"1MiB\"",
        )
        .set("queue", "prefetch", "256")
        .set("fetch", "read_timeout", "\"2s\"")
        .set("fetch", "allowed_hosts", r#"["127.0.0.1"]"#)
        .set("limits", "job_time", "\"9s\"");
    setup
}

/// An event with these attachments, under IDs of its own.
fn event(id: &str, urls: &[String]) -> String {
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let mut event: Value = serde_json::from_slice(&call::with_urls(&urls)).unwrap();
    event["request_id"] = id.into();
    event["data"]["id"] = id.into();
    event["data"]["created_at"] = json!("2023-08-24T10:05:18Z");
    event.to_string()
}

/// What every key of an [`event`]'s begins with.
fn folder(id: &str) -> String {
    format!("2023/08/24/{id}/{id}")
}

/// `callvault archive` on events, one a line, off the runtime's threads.
async fn archive(setup: &Setup, events: &[String]) -> Output {
    let (config, lines) = (setup.write(), setup.dir().join("events.jsonl"));
    fs::write(&lines, events.join("\n")).unwrap();
    let authority = setup.dir().join("ca.pem");
    tokio::task::spawn_blocking(move || {
        let mut command = worker::command();
        if authority.exists() {
            command.env("SSL_CERT_FILE", authority);
        }
        command.args(["archive", "--json", "--config"]).arg(config);
        command.arg(lines).output().unwrap()
    })
    .await
    .unwrap()
}

/// The only attachment of an event's manifest.
fn entry(setup: &Setup, id: &str) -> Value {
    let path = setup
        .folder("documents")
        .join(folder(id))
        .join("manifest.json");
    let manifest = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["attachments"][0].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_misbehave_get_nothing_in_and_learn_nothing() {
    let setup = setup();
    let authority = tls::Authority::new("the one that is trusted");
    fs::write(setup.dir().join("ca.pem"), authority.pem()).unwrap();
    let rows: Vec<Row> = [
        silence::rows(),
        heads::rows(),
        lengths::rows(),
        chunks::rows(),
        bodies::rows(),
        statuses::rows(),
        redirects::rows(),
        tls::rows(&authority),
    ]
    .into_iter()
    .flatten()
    .collect();
    let names: BTreeSet<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows.len(), "two rows of one name");

    // Where a redirect must not lead: a server that answers whoever comes.
    let forbidden = Server::start(vec![row::whole(b"forbidden")]).await;
    let (mut servers, mut events) = (Vec::new(), Vec::new());
    for (n, row) in rows.iter().enumerate() {
        let server = row.serve(forbidden.address().port()).await;
        let url = server
            .url(row.scheme, "/row/file.bin?sig=canary-7f3a#canary-7f3a")
            .replace("://", &format!("://user:{CANARY}@"));
        events.push(event(&format!("row-{n}"), &[url]));
        servers.push(server);
    }
    let started = std::time::Instant::now();
    let output = archive(&setup, &events).await;
    eprintln!("{} rows took {:?}", rows.len(), started.elapsed());

    let mut wrong = Vec::new();
    for (n, (row, server)) in rows.iter().zip(&servers).enumerate() {
        let (entry, seen) = (entry(&setup, &format!("row-{n}")), server.seen());
        eprintln!(
            "{:<60} {} {} connections {} requests {} bytes: {}",
            row.name,
            entry["status"],
            seen.connections,
            seen.requests.len(),
            seen.sent,
            entry["problem"]
        );
        let object = object(&setup, &entry);
        if let Err(error) = judge(row, &entry, object.as_ref(), &seen) {
            wrong.push(format!("{}: {error}\n{entry:#}", row.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert_eq!(forbidden.seen().connections, 0, "a redirect led too far");
    assert_eq!(output.status.code(), Some(1), "problems were found");
    clean(&output, rows.len());
}

/// The bytes that an entry's object has.
fn object(setup: &Setup, entry: &Value) -> Option<Bytes> {
    let (bucket, key) = (
        entry["object"]["bucket"].as_str()?,
        entry["object"]["key"].as_str()?,
    );
    let path: PathBuf = setup.folder(bucket).join(key);
    Some(fs::read(path).unwrap().into())
}

fn judge(row: &Row, entry: &Value, object: Option<&Bytes>, seen: &Seen) -> Result<(), String> {
    let code = entry["problem"]["code"].as_str();
    match &row.expect {
        Expect::Archived(bytes) => {
            if entry["status"] != "archived" || object != Some(bytes) {
                return Err(format!("not archived as it is, but {object:?}"));
            }
        }
        Expect::Problem(expected) => {
            if entry["status"] != "unavailable" || code != Some(expected) {
                return Err(format!("not {expected}"));
            }
        }
    }
    let detail = entry["problem"]["detail"].as_str().unwrap_or_default();
    if detail.len() > 512 || detail.chars().any(char::is_control) || detail.contains(CANARY) {
        return Err("its detail is not clean".into());
    }
    if let Some(said) = row.said
        && !detail.contains(said)
    {
        return Err(format!("its detail does not say {said:?}"));
    }
    if seen.connections != row.connections {
        return Err(format!("{} connections", seen.connections));
    }
    if row
        .requests
        .is_some_and(|requests| requests != seen.requests.len())
    {
        return Err(format!("{} requests", seen.requests.len()));
    }
    if let Some(most) = row.takes
        && seen.sent > most
    {
        return Err(format!("{} bytes were taken", seen.sent));
    }
    seen.requests.iter().try_for_each(|head| plain(head))
}

/// Whether a request tells nothing but what it asks for.
fn plain(head: &str) -> Result<(), String> {
    let mut lines = head.split("\r\n").take_while(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let mut names = BTreeSet::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let name = name.to_ascii_lowercase();
        if name == "accept-encoding" && value.trim() != "identity" {
            return Err(format!("asks for {value}"));
        }
        names.insert(name);
    }
    let expected = HEADERS.map(str::to_owned).into();
    if !first.starts_with("GET /") || !first.ends_with(" HTTP/1.1") || names != expected {
        return Err(format!("a request of another kind: {head:?}"));
    }
    Ok(())
}

/// Whether reports and log are a few short lines, without control characters or canaries.
fn clean(output: &Output, events: usize) {
    for (stream, text) in [("report", &output.stdout), ("log", &output.stderr)] {
        let text = std::str::from_utf8(text).unwrap();
        let lines = text.lines().count();
        assert!(lines <= 2 * events, "{lines} lines of {stream}");
        for line in text.lines() {
            assert!(line.len() <= 1024, "{stream}: {} bytes", line.len());
            assert!(!line.chars().any(char::is_control), "{stream}: {line:?}");
            assert!(!line.contains(CANARY), "{stream}: {line}");
        }
    }
}
