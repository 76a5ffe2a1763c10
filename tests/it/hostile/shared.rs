//! What servers that misbehave cost the others: nothing.

use std::{
    fs,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    event,
    row::{answer_then, drip, flood, ok, say},
};
use crate::support::{
    amqp::Amqp,
    call,
    config::Setup,
    http_client,
    load::Load,
    origin::Origin,
    script::{Act, Server},
    servers,
    wait::eventually,
    worker::{Worker, most_memory},
};

const DEADLINE: Duration = Duration::from_mins(1);
/// Attachments of a hostile event: as many as a job downloads at once.
const EACH: usize = 8;

async fn publish(amqp: &Amqp, setup: &Setup, id: &str, urls: &[String]) {
    let body = event(id, urls);
    amqp.publish(&setup.exchange(), "call.analyzed", None, body.as_bytes())
        .await;
}

/// Publishes events whose attachments are all at one server, and waits until each is being downloaded.
async fn occupy(amqp: &Amqp, setup: &Setup, server: &Server, events: usize) {
    for n in 0..events {
        let urls: Vec<_> = (0..EACH)
            .map(|m| server.url(None, &format!("/{n}/{m}.bin")))
            .collect();
        publish(amqp, setup, &format!("hostile-{n}"), &urls).await;
    }
    eventually(DEADLINE, "all hostile downloads to begin", async || {
        (server.seen().open == EACH * events).then_some(())
    })
    .await;
}

async fn archived(worker: &Worker, count: usize) {
    settled(worker, "archived", count).await;
}

async fn dead(worker: &Worker, count: usize) {
    settled(worker, "dead", count).await;
}

async fn settled(worker: &Worker, outcome: &str, count: usize) {
    let (what, outcome) = (
        format!("{count} events {outcome}"),
        format!("outcome=\"{outcome}\""),
    );
    eventually(DEADLINE, &what, async || {
        (worker.log().matches(&outcome).count() == count).then_some(())
    })
    .await;
}

fn open_files(worker: &Worker) -> usize {
    fs::read_dir(format!("/proc/{}/fd", worker.id()))
        .unwrap()
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_hostile_downloads_hang_good_events_are_archived_and_nothing_stays_behind() {
    const HOSTILE: usize = 12;
    const GOOD: usize = 60;
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup
        .set("queue", "prefetch", "16")
        .set("queue", "retry_delays", "[]")
        .set("fetch", "read_timeout", "\"5s\"")
        .set("limits", "job_time", "\"15s\"");
    // A quarter each: a body of no length, one in memory, one in the spool, and chunks.
    let heads = [
        "",
        "Content-Length: 4096\r\n",
        "Content-Length: 2097152\r\n",
    ];
    let mut scripts: Vec<_> = heads
        .iter()
        .map(|head| answer_then(ok(head, ""), vec![drip("y")]))
        .collect();
    scripts.push(answer_then(
        ok("Transfer-Encoding: chunked\r\n", ""),
        vec![drip("1\r\ny\r\n")],
    ));
    let scripts = scripts.into_iter().cycle().take(EACH * HOSTILE).collect();
    let server = Server::start(scripts).await;
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let before = open_files(&worker);
    occupy(&amqp, &setup, &server, HOSTILE).await;

    let load = Load::new(&origin.url(""), GOOD, 0);
    load.serve(&origin);
    let started = Instant::now();
    for call in &load.calls {
        call.publish(&amqp, &setup.exchange()).await;
    }
    archived(&worker, GOOD).await;
    eprintln!("{GOOD} good events took {:?}", started.elapsed());
    // They did not wait for a single hostile one.
    assert_eq!(server.seen().open, EACH * HOSTILE);
    assert!(
        !worker.log().contains("outcome=\"dead\""),
        "too slow a machine"
    );

    dead(&worker, HOSTILE).await;
    eventually(
        DEADLINE,
        "the hostile connections to be closed",
        async || (server.seen().open == 0).then_some(()),
    )
    .await;
    let seen = server.seen();
    assert_eq!(
        seen.connections,
        EACH * HOSTILE,
        "what is late is not tried again"
    );
    // What is left are idle connections to the good origin.
    let after = open_files(&worker);
    eprintln!("{before} files open before, {after} after");
    assert!(
        after < before + EACH * HOSTILE / 2,
        "{before} files before, {after} after"
    );
    let log = worker.log();
    let (lines, events) = (log.lines().count(), GOOD + HOSTILE);
    eprintln!("{lines} lines for {events} events");
    assert!(lines <= events + 20, "{lines} lines for {events} events");
    assert!(log.lines().all(|line| line.len() < 1024), "a long line");
}

#[tokio::test(flavor = "multi_thread")]
async fn gigabytes_that_are_announced_and_never_come_keep_the_spool_from_nobody() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup
        .set("queue", "retry_delays", "[]")
        .set("fetch", "read_timeout", "\"20s\"")
        .set("limits", "spool", "\"1GiB\"")
        .append("[attachments.file]\nfile = \"*\"\ncheck = \"none\"\nbucket = \"recordings\"\nmax_size = \"4GiB\"");
    let announced = ok("Content-Length: 1073741824\r\n", "");
    let server = Server::start(vec![answer_then(announced, vec![Act::Hang])]).await;
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    occupy(&amqp, &setup, &server, 1).await;
    origin.put("/recording.wav", call::wav(2 << 20), "audio/x-wav");
    publish(&amqp, &setup, "good", &[origin.url("/recording.wav")]).await;
    archived(&worker, 1).await;
    assert_eq!(server.seen().open, EACH, "the good one had to wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_flat_when_heads_and_bodies_are_endless_on_every_slot() {
    const EVENTS: usize = 32;
    let mut setup = Setup::folders().await;
    setup
        .set("queue", "prefetch", "32")
        .set("queue", "retry_delays", "[]")
        .set("limits", "job_time", "\"16s\"")
        .set("fetch", "read_timeout", "\"12s\"");
    // As much of a head as the client waits for, then silence; and a body that is sent as it is taken.
    let head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(400_000));
    let head = answer_then(head, vec![Act::Hang]);
    let body = Act::Steady(Bytes::from(vec![0; 64 << 10]), Duration::from_millis(200));
    let body = answer_then(ok("", ""), vec![body]);
    let scripts = (0..EACH * EVENTS).map(|n| {
        if n % 2 == 0 {
            head.clone()
        } else {
            body.clone()
        }
    });
    let server = Server::start(scripts.collect()).await;
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let before = most_memory(worker.id());
    occupy(&amqp, &setup, &server, EVENTS).await;
    dead(&worker, EVENTS).await;
    let most = most_memory(worker.id());
    eprintln!(
        "{before} MiB at rest, {most} MiB at most, {} MiB sent",
        server.seen().sent >> 20
    );
    // `limits.memory`, and for each of 256 connections the client's read buffer of at most 408 KiB, twice
    // where a body is handed on from one.
    assert!(most < before + 64 + 256, "{before} MiB, then {most} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_size_without_end_holds_up_nothing_but_downloads() {
    const FLOODS: usize = 8;
    let mut setup = Setup::folders().await;
    setup
        .set("queue", "prefetch", "16")
        .set("queue", "retry_delays", "[]")
        .set("fetch", "read_timeout", "\"5s\"")
        .set("limits", "job_time", "\"15s\"");
    // As fast as it can: the client looks at each digit, for minutes if it is let.
    let head = ok("Transfer-Encoding: chunked\r\n", "");
    let scripts = vec![answer_then(head, vec![flood("0".repeat(64 << 10))]); FLOODS];
    let server = Server::start(scripts).await;
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    occupy(&amqp, &setup, &server, FLOODS / EACH).await;

    let (client, alive) = (http_client(), format!("http://{}/livez", worker.address()));
    let started = Instant::now();
    for n in 0..20 {
        publish(&amqp, &setup, &format!("empty-{n}"), &[]).await;
        let answer = client.get(&alive).timeout(Duration::from_secs(2));
        assert!(answer.send().await.unwrap().status().is_success());
    }
    archived(&worker, 20).await;
    // Not one of the floods had ended.
    assert_eq!(server.seen().open, FLOODS, "{:?}", started.elapsed());
    dead(&worker, FLOODS / EACH).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_own_attachments_fill_the_spool_is_charged_and_dead_in_the_end() {
    let mut setup = Setup::folders().await;
    setup
        .set("queue", "retry_delays", "[\"200ms\"]")
        .set("limits", "spool", "\"16MiB\"")
        .set("limits", "job_time", "\"4s\"");
    // Of no length: some get room, the others wait for it until the end.
    let start = say(vec![0; 6 << 20]);
    let scripts = vec![answer_then(ok("", ""), vec![start, drip("y")]); 8 * EACH];
    let server = Server::start(scripts).await;
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let urls: Vec<_> = (0..EACH)
        .map(|n| server.url(None, &format!("/{n}.bin")))
        .collect();
    publish(&amqp, &setup, "hostile", &urls).await;
    dead(&worker, 1).await;
    let log = worker.log();
    assert!(
        log.contains("attempt=2") && !log.contains("does not work"),
        "{log}"
    );
    assert!(!log.contains("charged=false"), "{log}");
}
