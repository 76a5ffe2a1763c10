//! Where callvault connects, and where not, seen from where it would arrive.
//!
//! Each test has a world of its own, in which every address leads to it (`support::world`): a URL is
//! refused when callvault says so and no connection was begun, by the kernel's count. Each test also
//! shows that the same world is reached where nothing forbids it.

mod baggage;
mod hosts;
mod names;
mod proxies;
mod rebinding;
mod redirects;
mod registry;
mod spelling;
#[path = "../../src/fetch/guard/spellings.rs"]
mod spellings;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::{Command, Output},
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use crate::support::{worker, world::World};

/// A public address.
const PUBLIC: &str = "93.184.216.34";
/// The default rules of `[fetch]`.
const DEFAULT: &str = "";
/// Rules that allow connections to this machine and its networks.
const DEVELOPMENT: &str = "allow_private_addresses = true\nallow_http = true";

/// What became of an attachment: the text that was archived, or the code of its problem.
type Fared = Result<String, String>;

/// One event with these attachments, through `callvault archive`.
fn archive<S: AsRef<str>>(world: &World, rules: &str, urls: &[S]) -> Vec<Fared> {
    archive_with(world, rules, urls, &[])
}

/// The same, in an environment with these variables.
fn archive_with<S: AsRef<str>>(
    world: &World,
    rules: &str,
    urls: &[S],
    environment: &[(&str, &str)],
) -> Vec<Fared> {
    let run = Run::prepare(world, rules, &[urls]);
    let output = run.command(world).envs(environment.to_vec()).output();
    run.fared(&output.unwrap())
        .remove(0)
        .expect("a valid event")
}

/// Several valid events, side by side.
fn archive_all(world: &World, rules: &str, events: &[Vec<String>]) -> Vec<Vec<Fared>> {
    let events: Vec<_> = events.iter().map(Vec::as_slice).collect();
    let run = Run::prepare(world, rules, &events);
    let fared = run.fared(&run.command(world).output().unwrap());
    fared
        .into_iter()
        .map(|fared| fared.expect("a valid event"))
        .collect()
}

/// Whether each URL makes its event an invalid one.
fn are_invalid<S: AsRef<str>>(world: &World, urls: &[S]) -> Vec<bool> {
    let events: Vec<_> = urls.iter().map(std::slice::from_ref).collect();
    let run = Run::prepare(world, DEFAULT, &events);
    let output = run.command(world).output().unwrap();
    let fared = run.fared(&output);
    fared.iter().map(Option::is_none).collect()
}

/// A configuration and events in a folder of the world's.
struct Run {
    dir: std::path::PathBuf,
    events: usize,
}

impl Run {
    fn prepare<S: AsRef<str>>(world: &World, rules: &str, events: &[&[S]]) -> Self {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let dir = world.folder(&format!("run-{}", RUNS.fetch_add(1, Ordering::Relaxed)));
        let buckets = ["documents", "recordings", "quarantine"];
        let buckets = buckets.map(|name| format!("[buckets.{name}]\nurl = \"file:{name}\"\n"));
        let toml = format!(
            "[fetch]\n{rules}\n[limits]\nspool_dir = \".\"\n{}",
            buckets.concat()
        );
        fs::write(dir.join("callvault.toml"), toml).unwrap();
        let lines = events.iter().enumerate().map(|(at, urls)| {
            let attachments: Vec<_> = urls.iter().map(|url| json!({"url": url.as_ref()})).collect();
            let data = json!({
                "id": format!("call-{at}"), "created_at": "2023-08-24T10:05:18Z", "attachments": attachments,
            });
            let event = json!({"event": "call.analyzed", "request_id": format!("request-{at}"), "data": data});
            format!("{event}\n")
        });
        fs::write(dir.join("events.jsonl"), lines.collect::<String>()).unwrap();
        Self {
            dir,
            events: events.len(),
        }
    }

    fn command(&self, world: &World) -> Command {
        let mut command = worker::command();
        command
            .args(["archive", "--json", "--config"])
            .arg(self.dir.join("callvault.toml"))
            .arg(self.dir.join("events.jsonl"))
            .env("SSL_CERT_FILE", world.authority());
        command
    }

    /// By the report, whether an event was one, and by its manifest, how its attachments fared.
    fn fared(&self, output: &Output) -> Vec<Option<Vec<Fared>>> {
        let text = String::from_utf8_lossy(&output.stdout);
        let reports: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(reports.len(), self.events, "{text}{told}");
        let fared = |(at, report): (usize, &Value)| match report["outcome"].as_str().unwrap() {
            "invalid" => None,
            "archived" | "partial" => Some(self.manifest(at)),
            _ => panic!("{report}{told}"),
        };
        reports.iter().enumerate().map(fared).collect()
    }

    fn manifest(&self, at: usize) -> Vec<Fared> {
        let documents = self.dir.join("documents");
        let key = format!("2023/08/24/call-{at}/request-{at}/manifest.json");
        let manifest = fs::read(documents.join(key)).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let entries = manifest["attachments"].as_array().unwrap();
        entries
            .iter()
            .map(|entry| fared(entry, &documents))
            .collect()
    }
}

fn fared(entry: &Value, documents: &Path) -> Fared {
    let key = entry["object"]["key"].as_str();
    let archived = key.map(|key| fs::read_to_string(documents.join(key)).unwrap());
    archived.ok_or_else(|| entry["problem"]["code"].as_str().unwrap().to_owned())
}

/// Whether the rules for development allow an address that the default ones do not: by the standard
/// library's lists, and what it has none for.
fn is_of_this_network(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            let azure = v4.octets() == [168, 63, 129, 16];
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared || azure
        }
        IpAddr::V6(v6) => match v6.segments() {
            // NAT64, and ISATAP.
            [0x64, 0xff9b, 0, .., high, low] | [.., 0x5efe, high, low] => is_of_this_network(
                Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into(),
            ),
            _ => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
        },
    }
}

/// Where a connection to an address arrives, if any can be begun.
fn arrival(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => None,
        // The loopback's own broadcast.
        IpAddr::V4(v4) if v4.octets() == [127, 255, 255, 255] => None,
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Some(Ipv4Addr::LOCALHOST.into()),
        // Link-local: through which interface, no URL can say.
        IpAddr::V6(v6) if v6.is_multicast() || v6.is_unicast_link_local() => None,
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Some(Ipv6Addr::LOCALHOST.into()),
        address => Some(address),
    }
}

/// Asserts that no connection was begun since the last time, to any address and port.
#[track_caller]
fn assert_quiet(world: &World) {
    assert_connected_to(world, Vec::new());
}

/// Asserts that there was one connection to each of these addresses since the last time, in any order,
/// and that no other was begun.
#[track_caller]
fn assert_connected_to(world: &World, mut addresses: Vec<String>) {
    assert_eq!(world.begun(), addresses.len() as u64, "connections begun");
    let connections = world.origin.connections();
    let mut seen: Vec<_> = connections
        .iter()
        .map(|one| one.to.ip().to_string())
        .collect();
    seen.sort();
    addresses.sort();
    assert_eq!(seen, addresses);
}
