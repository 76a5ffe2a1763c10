//! Who waits for whom in one worker: nothing small for anything large, and what expires first goes first.

use std::{collections::BTreeSet, fs, time::Duration};

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::{
    amqp::Amqp,
    call,
    config::Setup,
    origin::Origin,
    proxy::{Mode, Proxy},
    script::{Act, Server},
    servers,
    wait::eventually,
    worker::{Worker, command},
};

const DEADLINE: Duration = Duration::from_mins(1);
/// Attachments of one event that are under way at once.
const SIDE_BY_SIDE: usize = 8;

/// A worker in folders that takes any file as it is, and waits for its origins.
async fn setup() -> Setup {
    let mut setup = Setup::folders().await;
    setup
        .set("fetch", "read_timeout", "\"20s\"")
        .append("[attachments.file]\nfile = \"*.bin\"\ncheck = \"none\"\nbucket = \"recordings\"\nmax_size = \"64MiB\"")
;
    setup
}

async fn start(setup: &Setup) -> (Worker, Amqp) {
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    (worker, Amqp::connect(servers::rabbit().await).await)
}

async fn publish(amqp: &Amqp, setup: &Setup, id: &str, urls: &[String]) {
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let mut event: Value = serde_json::from_slice(&call::with_urls(&urls)).unwrap();
    event["request_id"] = id.into();
    event["data"]["id"] = id.into();
    event["data"]["created_at"] = json!("2023-08-24T10:05:18Z");
    let body = event.to_string();
    amqp.publish(&setup.exchange(), "call.analyzed", None, body.as_bytes())
        .await;
}

/// A server whose every answer is a head, and then nothing.
async fn mute(head: &str) -> Server {
    let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n");
    Server::start(vec![vec![Act::Read, Act::Send(head.into()), Act::Hang]]).await
}

/// The URL as a store signs it for so many seconds.
fn signed(url: &str, seconds: i64) -> String {
    let expires = (Utc::now() + TimeDelta::seconds(seconds)).timestamp();
    format!("{url}?Expires={expires}")
}

/// What was asked for, in order, without the queries.
fn asked(server: &Server) -> Vec<String> {
    let requests = server.seen().requests;
    let path = |head: &String| {
        let target = head.split(' ').nth(1).unwrap();
        target.split('?').next().unwrap().to_owned()
    };
    requests.iter().map(path).collect()
}

async fn wait_asked(server: &Server, count: usize) -> Vec<String> {
    let what = format!("{count} requests");
    eventually(DEADLINE, &what, async || {
        (server.seen().requests.len() >= count).then(|| asked(server))
    })
    .await
}

async fn manifest(setup: &Setup, id: &str) -> Value {
    let path = format!("2023/08/24/{id}/{id}/manifest.json");
    let path = setup.folder("documents").join(path);
    let what = path.display().to_string();
    let bytes = eventually(DEADLINE, &what, async || fs::read(&path).ok()).await;
    serde_json::from_slice(&bytes).unwrap()
}

/// What a manifest lists, in order.
fn listed(manifest: &Value) -> Vec<&str> {
    let entries = manifest["attachments"].as_array().unwrap().iter();
    entries.map(name_of).collect()
}

/// The path of an entry's URL, which has one segment.
fn name_of(entry: &Value) -> &str {
    let url = entry["source"]["url"].as_str().unwrap();
    &url[url.rfind('/').unwrap()..]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_that_hangs_holds_up_no_other_of_its_event() {
    let (mut setup, origin) = (setup().await, Origin::start().await);
    setup.set("queue", "retry_delays", "[]");
    let server = mute("Content-Length: 10\r\n").await;
    let (_worker, amqp) = start(&setup).await;
    let paths: Vec<_> = (0..3 * SIDE_BY_SIDE).map(|n| format!("/{n}.bin")).collect();
    let mut urls = vec![server.url(None, "/hangs.bin")];
    for path in &paths {
        origin.put(path, path.clone(), "text/plain");
        urls.push(origin.url(path));
    }
    publish(&amqp, &setup, "one", &urls).await;
    eventually(DEADLINE, "all others to be archived", async || {
        let stored = fs::read_dir(setup.folder("recordings").join("2023/08/24/one/one"));
        (stored.ok()?.count() == paths.len()).then_some(())
    })
    .await;
    assert_eq!(server.seen().open, 1, "it had ended");

    drop(server);
    let manifest = manifest(&setup, "one").await;
    let mut expected = vec!["/hangs.bin".to_owned()];
    expected.extend(paths);
    assert_eq!(listed(&manifest), expected, "in the event's order");
    assert_eq!(manifest["attachments"][0]["status"], "unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_attachments_those_are_begun_first_whose_urls_expire_first() {
    let mut setup = setup().await;
    setup.set("queue", "retry_delays", "[]");
    let server = mute("Content-Length: 10\r\n").await;
    let (_worker, amqp) = start(&setup).await;
    let name = |n: usize| format!("/{n:02}.bin");
    let urls: Vec<_> = (0..2 * SIDE_BY_SIDE)
        .map(|n| {
            let url = server.url(None, &name(n));
            match n {
                // As if it told nothing.
                3 => signed(&url, 7200),
                // Gone, it is in no hurry any more.
                2 => signed(&url, -7200),
                12.. => signed(&url, 300),
                _ => url,
            }
        })
        .collect();
    publish(&amqp, &setup, "one", &urls).await;
    let first: BTreeSet<_> = wait_asked(&server, SIDE_BY_SIDE)
        .await
        .into_iter()
        .collect();
    let expected = [12, 13, 14, 15, 0, 1, 2, 3].map(name);
    assert_eq!(first, expected.clone().into());

    drop(server);
    let manifest = manifest(&setup, "one").await;
    let all: Vec<_> = (0..2 * SIDE_BY_SIDE).map(name).collect();
    assert_eq!(listed(&manifest), all, "in the event's order");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_deliveries_that_wait_for_a_place_that_begins_first_whose_url_expires_first() {
    let mut setup = setup().await;
    let proxy = Proxy::before(servers::rabbit().await);
    let url = proxy.instead(servers::rabbit().await);
    setup
        .set("queue", "prefetch", "3")
        .set("queue", "url", &format!("{url:?}"));
    let head = "Content-Length: 10\r\n";
    let (gone, stays) = (mute(head).await, mute(head).await);
    let mut run = command();
    run.env("RUST_LOG", "callvault=debug");
    run.args(["run", "--config"]).arg(setup.write());
    let worker = Worker::spawn(run, setup.dir());
    let amqp = Amqp::connect(servers::rabbit().await).await;
    worker.wait_log("consuming").await;
    publish(&amqp, &setup, "gone", &[gone.url(None, "/gone.bin")]).await;
    for id in ["stays-1", "stays-2"] {
        publish(&amqp, &setup, id, &[stays.url(None, &format!("/{id}.bin"))]).await;
    }
    wait_asked(&gone, 1).await;
    wait_asked(&stays, 2).await;

    // The broker gives what the worker had to this test; the jobs keep their places.
    proxy.set(Mode::Refuse);
    for _ in 0..3 {
        amqp.wait_take(setup.queue()).await;
    }
    let silent = stays.url(None, "/silent.bin");
    publish(&amqp, &setup, "silent", &[silent]).await;
    for (id, seconds) in [("late", 300), ("soon", 200)] {
        let url = signed(&stays.url(None, &format!("/{id}.bin")), seconds);
        publish(&amqp, &setup, id, &[url]).await;
    }
    proxy.set(Mode::Pass);
    eventually(DEADLINE, "three to wait for a place", async || {
        let waiting = worker.log().matches("waits for a place").count();
        (waiting == 3).then_some(())
    })
    .await;
    assert_eq!(stays.seen().requests.len(), 2, "a place too many");

    drop(gone);
    let asked = wait_asked(&stays, 3).await;
    assert_eq!(asked[2], "/soon.bin");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_downloads_that_wait_for_room_in_the_spool_that_gets_it_whose_url_expires_first() {
    let mut setup = setup().await;
    setup
        .set("queue", "prefetch", "16")
        .set("limits", "spool", "\"16MiB\"");
    let head = "Content-Length: 12582912\r\n";
    let (holds, waits) = (mute(head).await, mute(head).await);
    let (_worker, amqp) = start(&setup).await;
    publish(&amqp, &setup, "holds", &[holds.url(None, "/holds.bin")]).await;
    wait_asked(&holds, 1).await;
    let urls = [
        ("silent", waits.url(None, "/silent.bin")),
        ("soon", signed(&waits.url(None, "/soon.bin"), 200)),
        ("late", signed(&waits.url(None, "/late.bin"), 300)),
    ];
    for (n, (id, url)) in urls.iter().enumerate() {
        publish(&amqp, &setup, id, std::slice::from_ref(url)).await;
        // Each is given up for want of room.
        wait_asked(&waits, n + 1).await;
    }
    eventually(DEADLINE, "all to wait for room", async || {
        (waits.seen().open == 0).then_some(())
    })
    .await;

    drop(holds);
    let asked = wait_asked(&waits, 4).await;
    assert_eq!(asked[3], "/soon.bin");
}
