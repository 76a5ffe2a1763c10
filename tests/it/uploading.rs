//! How bodies get to a store: what is on the wire, and what becomes of it when the wire or the disk fails.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    time::Duration,
};

use callvault::{
    body::{Body, Budget},
    config::{self, Limits},
    digest::Sha256,
    store::{About, Bucket, Clients, Put},
};
use tempfile::TempDir;

use crate::{
    stores::{AT_ONCE, body},
    support::{
        amqp::Amqp,
        call,
        config::Setup,
        http_client,
        origin::Origin,
        recorder::{Fault, Recorder, Seen},
        servers,
        tls::Tls,
        wait::eventually,
        worker::{Worker, most_memory},
    },
};

/// For what is tried again by callvault itself.
const SOON: Duration = Duration::from_secs(20);
/// More than stays in memory.
const IN_A_FILE: usize = 3 << 20;
/// More than goes up in one request.
const IN_PARTS: usize = (64 << 20) + 5;
const PART: usize = 16 << 20;

fn open(endpoint: &str, clients: &Clients, more: &[(&str, &str)]) -> Bucket {
    let _ = http_client();
    let mut options = vec![
        ("endpoint", endpoint),
        ("region", "us-east-1"),
        ("access_key_id", "any"),
        ("secret_access_key", "any"),
    ];
    if endpoint.starts_with("http://") {
        options.push(("allow_http", "true"));
    }
    options.extend(more);
    let settings = config::Bucket {
        name: "recorded".into(),
        url: "s3://bucket/prefix".into(),
        options: options
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned().into()))
            .collect(),
    };
    Bucket::open(&settings, clients).unwrap()
}

/// A budget whose temporary files are in a folder of the test's own.
fn budget() -> (TempDir, Budget) {
    budget_of(16 << 20)
}

/// The same with so many bytes of memory.
fn budget_of(memory: u64) -> (TempDir, Budget) {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let budget = Budget::new(&Limits {
        memory,
        spool: 256 << 20,
        spool_dir: dir.path().to_owned(),
        job_time: SOON,
    });
    (dir, budget)
}

fn about(body: &Body) -> About {
    About {
        content_type: Some("audio/x-wav".into()),
        metadata: vec![("sha256", body.sha256().to_string())],
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..=250)
        .flat_map(|n| [n; 7])
        .cycle()
        .take(length)
        .collect()
}

async fn put(bucket: &Bucket, key: &str, body: &Body, budget: &Budget, patience: Duration) -> Put {
    let about = about(body);
    let put = bucket.put(key, body, &about, budget, patience);
    put.await.unwrap()
}

fn header<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    seen.headers.get(name).map(String::as_str)
}

#[tokio::test]
async fn a_body_is_one_request_that_creates_and_is_signed_with_what_arrived() {
    let (store, (_dir, budget)) = (Recorder::start().await, budget());
    let bucket = open(&store.url(), &Clients::default(), &[]);
    for (n, length) in [0, 1000, 300_000, IN_A_FILE, 10_000_001, 64 << 20]
        .into_iter()
        .enumerate()
    {
        let body = body(&budget, &bytes(length)).await;
        let key = format!("{length}.wav");
        assert_eq!(
            put(&bucket, &key, &body, &budget, AT_ONCE).await,
            Put::Stored
        );

        assert_eq!(store.requests(), n + 1);
        let seen = store.seen("PUT").pop().unwrap();
        let sha256 = body.sha256().to_string();
        assert_eq!((seen.length, &seen.sha256), (length, &sha256));
        assert_eq!(header(&seen, "content-length"), Some(&*length.to_string()));
        assert_eq!(header(&seen, "transfer-encoding"), None);
        assert_eq!(header(&seen, "x-amz-content-sha256"), Some(&*sha256));
        assert_eq!(header(&seen, "if-none-match"), Some("*"));
        assert_eq!(header(&seen, "content-type"), Some("audio/x-wav"));
        assert!(header(&seen, "authorization").is_some());
    }
}

#[tokio::test]
async fn a_body_that_was_altered_on_the_disk_is_refused_by_the_store() {
    let (store, (dir, budget)) = (Recorder::start().await, budget());
    let bucket = open(&store.url(), &Clients::default(), &[]);
    let body = body(&budget, &bytes(IN_A_FILE)).await;
    alter(dir.path());

    let refused = bucket
        .put("x.wav", &body, &about(&body), &budget, AT_ONCE)
        .await;

    assert!(refused.is_err());
    let seen = store.seen("PUT").pop().unwrap();
    let sha256 = body.sha256().to_string();
    assert_eq!(header(&seen, "x-amz-content-sha256"), Some(&*sha256));
    assert_eq!(seen.length, IN_A_FILE);
    assert_ne!(seen.sha256, sha256, "nothing was altered");
    assert_eq!(store.objects(), 0);
}

/// Turns a byte over in the one temporary file of a folder. It has no name: this process has it open.
fn alter(dir: &Path) {
    let dir = fs::canonicalize(dir).unwrap();
    let spooled = fs::read_dir("/proc/self/fd").unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        let target = fs::read_link(&path).ok()?;
        target.starts_with(&dir).then_some(path)
    });
    let file = File::options()
        .read(true)
        .write(true)
        .open(spooled.expect("a temporary file"))
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1_000_000).unwrap();
    file.write_all_at(&[!byte[0]], 1_000_000).unwrap();
}

#[tokio::test]
async fn a_store_that_cuts_off_or_is_overloaded_gets_the_whole_body_again() {
    for length in [1000, IN_A_FILE, IN_PARTS] {
        let (store, (_dir, budget)) = (Recorder::start().await, budget());
        let bucket = open(&store.url(), &Clients::default(), &[]);
        let body = body(&budget, &bytes(length)).await;
        let faults = [
            Fault::ResetAt(length / 2),
            Fault::Status(503),
            Fault::ResetAt(0),
            Fault::Status(429),
        ];
        let tries = faults.len();
        store.next(faults);

        assert_eq!(
            put(&bucket, "x.wav", &body, &budget, SOON).await,
            Put::Stored
        );

        if length < IN_PARTS {
            let puts = store.seen("PUT");
            let last = puts.last().unwrap();
            assert_eq!(puts.len(), tries + 1);
            assert_eq!(last.length, length);
            assert_eq!(last.sha256, body.sha256().to_string());
        } else {
            assert_parts(&store, &bytes(length));
        }
    }
}

/// The parts that came in whole are those of the body.
fn assert_parts(store: &Recorder, bytes: &[u8]) {
    let expected: Vec<_> = bytes
        .chunks(PART)
        .map(|part| Sha256::of(part).to_string())
        .collect();
    let mut came = vec![None; expected.len()];
    for seen in store.seen("PUT") {
        let number = seen.target.split("partNumber=").nth(1).unwrap();
        let number: usize = number.split('&').next().unwrap().parse().unwrap();
        // The last try is the one that counted.
        came[number - 1] = Some(seen.sha256);
    }
    let came: Vec<_> = came.into_iter().flatten().collect();
    assert!(came == expected, "{came:?}");
}

#[tokio::test]
async fn parts_are_signed_where_nothing_else_proves_the_store_unless_told_otherwise() {
    let certificates = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let authority = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let name = |end: &str| certificates.path().join(format!("store.{end}"));
    fs::write(name("pem"), authority.cert.pem()).unwrap();
    fs::write(name("key"), authority.signing_key.serialize_pem()).unwrap();
    let (_dir, budget) = budget();
    let large = body(&budget, &bytes(IN_PARTS)).await;
    let small = body(&budget, &bytes(IN_A_FILE)).await;
    for (tls, said, whole, parts) in [
        (false, None, true, true),
        (false, Some("true"), false, false),
        (false, Some("false"), true, true),
        // TLS that would believe anybody.
        (true, None, true, true),
        (true, Some("true"), false, false),
        (true, Some("false"), true, true),
    ] {
        let store = Recorder::start().await;
        let before = Tls::before(&store.address().to_string(), certificates.path(), "store").await;
        let url = if tls {
            format!("https://localhost:{}", before.address().port())
        } else {
            store.url()
        };
        let mut more = vec![("allow_invalid_certificates", "true")];
        more.extend(said.map(|said| ("unsigned_payload", said)));
        let bucket = open(&url, &Clients::default(), &more);

        put(&bucket, "small.wav", &small, &budget, AT_ONCE).await;
        put(&bucket, "large.wav", &large, &budget, AT_ONCE).await;

        let puts = store.seen("PUT");
        assert_eq!(puts.len(), 1 + IN_PARTS.div_ceil(PART));
        for (n, seen) in puts.iter().enumerate() {
            let signed = if n == 0 { whole } else { parts };
            let expected = if signed {
                &seen.sha256
            } else {
                "UNSIGNED-PAYLOAD"
            };
            let case = format!("{tls} {said:?} {}", seen.target);
            assert_eq!(
                header(seen, "x-amz-content-sha256"),
                Some(expected),
                "{case}"
            );
        }
    }
}

#[tokio::test]
async fn a_redirect_takes_no_body_anywhere_and_is_no_success() {
    for status in [301, 302, 303, 307, 308] {
        let (store, elsewhere) = (Recorder::start().await, Recorder::start().await);
        let (_dir, budget) = budget();
        let bucket = open(&store.url(), &Clients::default(), &[]);
        for length in [1000, IN_A_FILE] {
            let body = body(&budget, &bytes(length)).await;
            let to = format!("{}/bucket/prefix/x.wav", elsewhere.url());
            store.next([Fault::Redirect(status, to)]);
            let put = bucket
                .put("x.wav", &body, &about(&body), &budget, AT_ONCE)
                .await;
            assert!(put.is_err(), "{status}: {put:?}");
        }
        assert_eq!(elsewhere.connections(), 0);
        assert_eq!(store.objects(), 0);
    }
}

#[tokio::test]
async fn a_large_body_that_is_there_already_is_not_sent_again_after_a_failure() {
    // In a file, and in memory.
    for (memory, in_memory) in [(16 << 20, false), (256 << 20, true)] {
        let (store, (_dir, budget)) = (Recorder::start().await, budget_of(memory));
        let bucket = open(&store.url(), &Clients::default(), &[]);
        let body = body(&budget, &bytes(IN_A_FILE)).await;
        assert_eq!(body.chunks().is_some(), in_memory);
        put(&bucket, "x.wav", &body, &budget, AT_ONCE).await;
        // As a store does that refuses before it has read.
        store.next([
            Fault::ResetAt(1000),
            Fault::ResetAt(1000),
            Fault::ResetAt(1000),
        ]);

        let again = put(&bucket, "x.wav", &body, &budget, SOON).await;

        assert_eq!(again, Put::Stored);
        assert!(store.seen("PUT").len() <= 4, "{:?}", store.seen("PUT"));
        assert_eq!(store.seen("HEAD").len(), 1);
    }
}

#[tokio::test]
async fn buckets_with_the_same_options_share_their_connections() {
    let (store, (_dir, budget)) = (Recorder::start().await, budget());
    let clients = Clients::default();
    let buckets = [(); 3].map(|()| open(&store.url(), &clients, &[]));
    let body = body(&budget, &bytes(IN_A_FILE)).await;
    for round in 0..10 {
        for (n, bucket) in buckets.iter().enumerate() {
            put(bucket, &format!("{round}-{n}"), &body, &budget, AT_ONCE).await;
        }
    }
    assert_eq!(store.connections(), 1);
    for round in 10..20 {
        let puts = (0..8).map(|n| {
            let (bucket, key) = (&buckets[n % 3], format!("{round}-{n}"));
            let (body, budget) = (&body, &budget);
            async move { put(bucket, &key, body, budget, AT_ONCE).await }
        });
        futures_util::future::join_all(puts).await;
    }
    assert_eq!(store.seen("PUT").len(), 30 + 80);
    assert!(store.connections() <= 8, "{}", store.connections());
}

/// A worker that archives to a recorder.
async fn worker(store: &Recorder) -> (Setup, Worker, Amqp) {
    let rabbit = servers::rabbit().await;
    let mut setup = Setup::new(rabbit);
    setup.append(&format!(
        "[buckets.documents]\nurl = \"s3://bucket/archive\"\noptions = {{ endpoint = \"{}\", allow_http = \"true\", \
         region = \"us-east-1\", access_key_id = \"any\", secret_access_key = \"any\" }}\n",
        store.url()
    ));
    setup.append(crate::stores::ONE_BUCKET);
    setup.set("queue", "prefetch", "32");
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    (setup, worker, Amqp::connect(rabbit).await)
}

/// An event of now, so that nobody looks whether it is archived already.
fn event_of_now(urls: &[&str]) -> serde_json::Value {
    let mut event: serde_json::Value = serde_json::from_slice(&call::with_urls(urls)).unwrap();
    let now = chrono::Utc::now().to_rfc3339();
    event["data"]["created_at"] = now.clone().into();
    event["data"]["updated_at"] = now.into();
    event
}

async fn publish(amqp: &Amqp, setup: &Setup, event: &serde_json::Value) {
    let body = event.to_string();
    amqp.publish(&setup.exchange(), "call.analyzed", None, body.as_bytes())
        .await;
}

#[tokio::test]
async fn an_event_that_fails_nowhere_takes_three_gets_and_four_puts() {
    let (store, origin) = (Recorder::start().await, Origin::start().await);
    let (setup, mut worker, amqp) = worker(&store).await;
    let files = [
        ("/analysis.json", "{}".into()),
        ("/recording.wav", call::wav(5_000_000)),
        ("/transcript.json", "[]".into()),
    ];
    let urls = files.map(|(path, bytes): (&str, bytes::Bytes)| {
        origin.put(path, bytes, "text/plain");
        origin.url(path)
    });
    let event = event_of_now(&urls.each_ref().map(String::as_str));
    publish(&amqp, &setup, &event).await;
    worker.wait_log("outcome=\"archived\"").await;
    worker.term();
    assert!(worker.wait_exit(SOON).await.success());

    let gets: usize = ["/analysis.json", "/recording.wav", "/transcript.json"]
        .map(|path| origin.hits(path))
        .iter()
        .sum();
    assert_eq!((gets, store.seen("PUT").len()), (3, 4));
    assert_eq!(store.requests(), 4, "{}", worker.log());
    let last = store.seen("PUT").pop().unwrap();
    assert!(last.target.ends_with("/manifest.json"), "{}", last.target);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recordings_of_ten_megabytes_on_all_places_of_a_worker_take_little_memory() {
    const EVENTS: usize = 32;
    /// With each of them in memory while it goes up it would be 320 MB more. Unoptimized it is 60 to 80.
    const MOST_MIB: u64 = 128;
    let (store, origin) = (Recorder::start().await, Origin::start().await);
    let (setup, mut worker, amqp) = worker(&store).await;
    origin.put("/recording.wav", call::wav(5_000_000), "audio/x-wav");
    let mut event = event_of_now(&[&origin.url("/recording.wav")]);
    for n in 0..EVENTS {
        event["data"]["id"] = format!("call-{n}").into();
        publish(&amqp, &setup, &event).await;
    }
    eventually(Duration::from_mins(1), "all manifests", async || {
        (store.objects() == 2 * EVENTS).then_some(())
    })
    .await;
    let memory = most_memory(worker.id());
    worker.term();
    assert!(worker.wait_exit(SOON).await.success());
    assert!(memory < MOST_MIB, "{memory} MiB");
}
