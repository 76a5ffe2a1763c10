//! What callvault relies on, of every kind of store: one suite, run against each of them.

use std::{process::Output, sync::Arc, time::Duration};

use bytes::Bytes;
use callvault::{
    body::{Body, Budget},
    config::Limits,
    store::{About, Promise, Put, Small, Stores},
};
use futures_util::TryStreamExt;

use crate::support::{
    call, config::Setup, lossy::Lossy, origin::Origin, place::Place, wait::eventually,
    worker::callvault,
};

/// A store that does not do at once what it is told fails the test.
pub(crate) const AT_ONCE: Duration = Duration::ZERO;
/// For what is tried again by callvault itself.
const SOON: Duration = Duration::from_secs(20);
/// More than goes up in one request.
const LARGE: usize = 65 << 20;

/// All that is archived goes to one bucket.
pub(crate) const ONE_BUCKET: &str = r#"[archive]
quarantine_bucket = "documents"
[attachments.all]
file = "*"
check = "none"
bucket = "documents"
"#;

#[test]
fn what_is_told_of_a_bucket_for_debugging_holds_no_secret_of_its_clients() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let clients = callvault::store::Clients::default();
    let options = [
        ("proxy_url", "http://u:canary@127.0.0.1:1"),
        ("access_key_id", "canary"),
        ("secret_access_key", "canary"),
        ("region", "x"),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value.into()));
    let settings = callvault::config::Bucket {
        name: "b".into(),
        url: "s3://bucket/prefix".into(),
        options: options.into(),
    };
    let bucket = callvault::store::Bucket::open(&settings, &clients).unwrap();
    let told = format!("{bucket:?} {clients:?} {settings:?}");
    assert!(
        told.contains("prefix") && !told.contains("canary"),
        "{told}"
    );
}

macro_rules! promises {
    ($($(#[$note:meta])* $promise:ident),+ $(,)?; of_servers: $($of_server:ident),+ $(,)?) => {
        mod folder {
            $(#[tokio::test] async fn $promise() { super::$promise(super::Place::folder()).await })+
        }
        mod s3 {
            $(#[tokio::test] async fn $promise() { super::$promise(super::Place::s3().await).await })+
            $(#[tokio::test] async fn $of_server() { super::$of_server(super::Place::s3().await).await })+
        }
        mod azure {
            $(#[tokio::test] #[ignore = "needs tests/run --all-stores"]
            async fn $promise() { super::$promise(super::Place::azure().await).await })+
            $(#[tokio::test] #[ignore = "needs tests/run --all-stores"]
            async fn $of_server() { super::$of_server(super::Place::azure().await).await })+
        }
        mod google {
            $(#[tokio::test] #[ignore = "needs tests/run --all-stores"]
            async fn $promise() { super::$promise(super::Place::google().await).await })+
            $(#[tokio::test] #[ignore = "needs tests/run --all-stores"]
            async fn $of_server() { super::$of_server(super::Place::google().await).await })+
        }
    };
}

promises!(
    an_object_is_created_where_none_is_and_never_overwritten,
    a_manifest_is_created_once_and_replaced_only_as_it_was_found,
    a_large_object_goes_up_in_parts_and_comes_back_in_ranges,
    an_upload_that_is_given_up_is_aborted_before_the_process_ends,
    what_is_staged_is_written_over_what_is_there,
    others_read_the_content_type_and_the_metadata,
    an_archive_is_listed_in_order_from_any_key_on_and_read_for_what_it_is,
    a_missing_key_is_missing_and_nothing_lies_outside_the_prefix,
    a_call_is_archived_from_end_to_end,
    a_check_finds_every_promise_kept_and_leaves_nothing;
    of_servers:
    a_write_whose_answer_is_lost_is_not_taken_for_somebody_elses,
    a_write_whose_answers_are_lost_again_and_again_is_found_in_the_end,
    an_upload_that_cannot_be_completed_for_a_while_is_sent_anew,
);

async fn an_object_is_created_where_none_is_and_never_overwritten(place: Place) {
    let (bucket, budget) = (place.open(), budget(&place));
    let (first, other) = (body(&budget, b"first").await, body(&budget, b"other").await);
    let put = async |key, body| {
        bucket
            .put(key, body, &about(body), &budget, AT_ONCE)
            .await
            .unwrap()
    };

    assert_eq!(put("a/b/x.json", &first).await, Put::Stored);
    assert_eq!(put("a/b/x.json", &first).await, Put::Stored);
    assert_eq!(put("a/b/x.json", &other).await, Put::Occupied);

    assert_eq!(place.see("a/b/x.json").await.unwrap().bytes, "first");
    // Of two at the same time one is first, and the other one is told.
    let (one, two) = tokio::join!(put("a/b/y.json", &first), put("a/b/y.json", &other));
    assert!(
        [(one, two), (two, one)].contains(&(Put::Stored, Put::Occupied)),
        "{one:?} {two:?}"
    );
}

async fn a_manifest_is_created_once_and_replaced_only_as_it_was_found(place: Place) {
    let (bucket, about) = (place.open(), About::default());
    let (a, b, c) = (Bytes::from("a"), Bytes::from("b"), Bytes::from("c"));
    let create = async |bytes: &Bytes| {
        bucket
            .create("m.json", bytes.clone(), &about, AT_ONCE)
            .await
            .unwrap()
    };
    let find = async || bucket.find("m.json", AT_ONCE).await.unwrap();

    assert!(find().await.is_none());
    assert_eq!(create(&a).await, Put::Stored);
    assert_eq!(create(&a).await, Put::Stored);
    assert_eq!(create(&b).await, Put::Occupied);
    let found = find().await.unwrap();
    assert_eq!(found.bytes, a);
    let replace = async |bytes: &Bytes| {
        bucket
            .replace("m.json", &found, bytes.clone(), &about, AT_ONCE)
            .await
            .unwrap()
    };
    assert_eq!(replace(&b).await, Put::Stored);
    assert_eq!(replace(&b).await, Put::Stored);
    assert_eq!(replace(&c).await, Put::Occupied);

    assert_eq!(place.see("m.json").await.unwrap().bytes, b);
}

async fn a_large_object_goes_up_in_parts_and_comes_back_in_ranges(place: Place) {
    let (bucket, budget) = (place.open(), budget(&place));
    let large = body(&budget, &pattern(LARGE)).await;
    let other = body(&budget, &pattern(LARGE + 1)).await;
    let put = async |body| {
        bucket
            .put("large.wav", body, &about(body), &budget, AT_ONCE)
            .await
            .unwrap()
    };

    assert_eq!(put(&large).await, Put::Stored);
    assert_eq!(put(&large).await, Put::Stored);
    assert_eq!(put(&other).await, Put::Occupied);

    assert!(place.see("large.wav").await.unwrap().bytes == pattern(LARGE));
    assert!(
        place.unfinished().await.is_empty(),
        "{:?}",
        place.unfinished().await
    );
    drop(other);
    let back = bucket.get("large.wav", &budget, AT_ONCE).await.unwrap();
    assert_eq!(
        (back.body.len(), back.body.sha256()),
        (large.len(), large.sha256())
    );
}

async fn an_upload_that_is_given_up_is_aborted_before_the_process_ends(place: Place) {
    let (stores, budget) = (Stores::new([place.open()]), budget(&place));
    let bucket = stores.get("place").unwrap();
    let large = body(&budget, &pattern(LARGE)).await;

    let staged = bucket
        .stage("up.wav", &large, &about(&large), &budget, AT_ONCE)
        .await
        .unwrap();
    assert_eq!(place.unfinished().await, ["up.wav".to_owned()].into());
    drop(staged);

    assert!(stores.cleaned(SOON).await, "aborted in time");
    assert_eq!(
        place.unfinished().await.is_empty(),
        !place.forgets_by_itself()
    );
    assert!(place.see("up.wav").await.is_none());
}

async fn what_is_staged_is_written_over_what_is_there(place: Place) {
    let (bucket, budget) = (place.open(), budget(&place));
    for (key, after) in [("small.wav", pattern(100)), ("large.wav", pattern(LARGE))] {
        let before = body(&budget, b"bad").await;
        bucket
            .put(key, &before, &about(&before), &budget, AT_ONCE)
            .await
            .unwrap();
        let after = body(&budget, &after).await;
        let info = about(&after);
        let staged = bucket
            .stage(key, &after, &info, &budget, AT_ONCE)
            .await
            .unwrap();
        assert_eq!(place.see(key).await.unwrap().bytes, "bad");
        bucket
            .overwrite(staged, &after, &info, &budget, AT_ONCE)
            .await
            .unwrap();
        assert_eq!(
            place.see(key).await.unwrap().bytes.len() as u64,
            after.len()
        );
    }
}

async fn others_read_the_content_type_and_the_metadata(place: Place) {
    let (bucket, budget) = (place.open(), budget(&place));
    for (key, size) in [("small.wav", 100), ("large.wav", LARGE)] {
        let body = body(&budget, &pattern(size)).await;
        bucket
            .put(key, &body, &about(&body), &budget, AT_ONCE)
            .await
            .unwrap();
        let seen = place.see(key).await.unwrap();
        if place.has_metadata() {
            assert_eq!(seen.content_type.as_deref(), Some("audio/x-wav"), "{key}");
            assert_eq!(seen.metadata["call_id"], "5e09%C3%BC", "{key}");
            assert_eq!(seen.metadata["sha256"], body.sha256().to_string(), "{key}");
            let back = bucket.get(key, &budget, AT_ONCE).await.unwrap();
            assert_eq!(back.content_type.as_deref(), Some("audio/x-wav"));
        } else {
            assert_eq!(seen.metadata.len(), 0);
        }
    }
}

async fn an_archive_is_listed_in_order_from_any_key_on_and_read_for_what_it_is(place: Place) {
    let (bucket, budget) = (Arc::new(place.open()), budget(&place));
    let keys = [
        "2023/08/24/c-1/r/a.json",
        "2023/08/24/c-1/r/manifest.json",
        "2023/08/24/c-2/r/manifest.json",
        "2023/08/25/c/r/manifest.json",
        "2024/01/01/c/r/manifest.json",
    ];
    for key in keys {
        let bytes = Bytes::from(key);
        let created = bucket.create(key, bytes, &About::default(), AT_ONCE).await;
        assert_eq!(created.unwrap(), Put::Stored);
    }
    let list = async |folder, after| -> Vec<(String, u64)> {
        let listed = bucket.list(folder, after);
        let listed = listed.map_ok(|listed| (listed.key, listed.size));
        listed.try_collect().await.unwrap()
    };
    let all: Vec<_> = keys.map(|key| (key.to_owned(), key.len() as u64)).into();
    assert_eq!(list("", None).await, all);
    assert_eq!(list("2023/08/24", None).await, all[..3]);
    assert_eq!(list("2023/08", Some(keys[1])).await, all[2..4]);
    assert_eq!(
        list("2023/08/2", None).await,
        [],
        "half a name is no folder"
    );
    assert_eq!(bucket.folders("").await.unwrap(), ["2023", "2024"]);
    assert_eq!(bucket.folders("2023/08").await.unwrap(), ["24", "25"]);
    assert_eq!(bucket.folders("2022").await.unwrap(), [""; 0]);

    let read = async |key, most| bucket.read_small(key, most).await.unwrap();
    assert!(matches!(read(keys[0], 100).await, Small::Whole(bytes) if bytes == keys[0]));
    assert!(matches!(read(keys[0], 5).await, Small::TooLarge(23)));
    assert!(matches!(read("2023/x", 5).await, Small::Missing));
    assert_eq!(bucket.size_of(keys[0]).await.unwrap(), Some(23));
    assert_eq!(bucket.size_of("2023/08/24").await.unwrap(), None);

    // Of more than one request, and of none at all.
    let large = vec![7; (8 << 20) + 5];
    for (key, bytes) in [("2025/large", &large[..]), ("2025/empty", b"")] {
        let (size, body) = (bytes.len() as u64, body(&budget, bytes).await);
        let about = about(&body);
        let put = bucket.put(key, &body, &about, &budget, AT_ONCE);
        assert_eq!(put.await.unwrap(), Put::Stored);
        let seen = bucket.digest(key, size).await.unwrap().unwrap();
        assert_eq!((seen.size, seen.sha256), (size, Some(body.sha256())));
        // Another size tells enough.
        let seen = bucket.digest(key, size + 1).await.unwrap().unwrap();
        assert_eq!((seen.size, seen.sha256), (size, None));
    }
    assert_eq!(bucket.digest("2025/gone", 9 << 20).await.unwrap(), None);
    assert_eq!(bucket.digest("2025/gone", 1).await.unwrap(), None);
}

async fn a_missing_key_is_missing_and_nothing_lies_outside_the_prefix(place: Place) {
    let (bucket, budget) = (place.open(), budget(&place));
    assert!(bucket.find("a/none.json", AT_ONCE).await.unwrap().is_none());
    let error = bucket
        .get("a/none.wav", &budget, AT_ONCE)
        .await
        .unwrap_err();
    assert_eq!(error.bucket, "place");
    let small = body(&budget, b"x").await;
    for key in ["2023/08/24/c/r/a.json", "2023/08/24/c/r/a-2.json"] {
        bucket
            .put(key, &small, &about(&small), &budget, AT_ONCE)
            .await
            .unwrap();
    }
    let keys: Vec<_> = place.keys().await.into_iter().collect();
    assert_eq!(keys, ["2023/08/24/c/r/a-2.json", "2023/08/24/c/r/a.json"]);
    assert!(place.open().find("../x", AT_ONCE).await.is_err());
}

async fn a_call_is_archived_from_end_to_end(place: Place) {
    let origin = Origin::start().await;
    let mut setup = Setup::new("amqp://127.0.0.1:1/%2f");
    setup.append(&place.toml("documents"));
    setup.append(ONE_BUCKET);
    let event = setup.dir().join("event.json");
    std::fs::write(&event, call::served(&origin)).unwrap();
    let config = setup.write();
    let (config, event) = (config.to_str().unwrap(), event.to_str().unwrap());
    let archive = async || {
        let output = run(&["archive", "--config", config, event]).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{text}{log}");
        text
    };

    assert!(archive().await.contains("1 archived (3 attachments"));
    assert!(archive().await.contains("1 archived before"));

    for (name, content_type, bytes) in call::files() {
        let seen = place
            .see(&format!("{}/{name}", call::FOLDER))
            .await
            .unwrap();
        assert_eq!(seen.bytes, bytes);
        if place.has_metadata() {
            assert_eq!(seen.content_type.as_deref(), Some(content_type));
            assert_eq!(seen.metadata["agent_id"], call::AGENT);
        }
    }
    let manifest = place.see(call::MANIFEST).await.unwrap().bytes;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["status"], "complete");
}

async fn a_check_finds_every_promise_kept_and_leaves_nothing(place: Place) {
    let found = place.open().probe().await.unwrap();
    assert!(
        found.iter().all(|finding| finding.promise == Promise::Kept),
        "{found:?}"
    );
    assert_eq!(found.is_empty(), place.has_metadata(), "{found:?}");
    assert!(place.keys().await.is_empty(), "{:?}", place.keys().await);
}

async fn a_write_whose_answer_is_lost_is_not_taken_for_somebody_elses(place: Place) {
    lose(place, 1, AT_ONCE).await;
}

async fn a_write_whose_answers_are_lost_again_and_again_is_found_in_the_end(place: Place) {
    // More than the client itself tries.
    lose(place, 4, SOON).await;
}

async fn an_upload_that_cannot_be_completed_for_a_while_is_sent_anew(place: Place) {
    let proxy = Lossy::before(&place.endpoint().unwrap()).await;
    let (stores, budget) = (
        Stores::new([place.open_behind(&proxy, &[])]),
        budget(&place),
    );
    let bucket = stores.get("place").unwrap();
    let large = body(&budget, &pattern(LARGE)).await;
    let info = about(&large);
    let staged = bucket
        .stage("large", &large, &info, &budget, AT_ONCE)
        .await
        .unwrap();

    let (method, completion) = place.completion();
    proxy.refuse(method, completion, 503);
    let written = bucket.overwrite(staged, &large, &info, &budget, SOON);
    let heal = async {
        // The client tries three times, then it is for callvault to go on.
        eventually(SOON, "three refusals", async || {
            (proxy.refused() >= 3).then_some(())
        })
        .await;
        proxy.heal();
    };
    tokio::join!(written, heal).0.unwrap();

    assert!(place.see("large").await.unwrap().bytes == pattern(LARGE));
    assert!(stores.cleaned(SOON).await);
    assert!(
        place.unfinished().await.is_empty(),
        "{:?}",
        place.unfinished().await
    );
}

/// Loses answers to each kind of write.
async fn lose(place: Place, times: usize, patience: Duration) {
    let proxy = Lossy::before(&place.endpoint().unwrap()).await;
    let (bucket, budget) = (place.open_behind(&proxy, &[]), budget(&place));
    let small = body(&budget, b"small").await;
    let large = body(&budget, &pattern(LARGE)).await;
    let (a, b) = (Bytes::from("a"), Bytes::from("b"));
    let info = About::default();
    // What is found in the store needs no further answer.
    let some_lost = || assert!((1..=times).contains(&proxy.heal()));

    proxy.lose("PUT", "small", times);
    let put = bucket
        .put("small", &small, &about(&small), &budget, patience)
        .await;
    assert_eq!(put.unwrap(), Put::Stored);
    some_lost();

    proxy.lose("PUT", "manifest", times);
    assert_eq!(
        bucket.create("manifest", a, &info, patience).await.unwrap(),
        Put::Stored
    );
    some_lost();

    let found = bucket.find("manifest", patience).await.unwrap().unwrap();
    proxy.lose("PUT", "manifest", times);
    let replaced = bucket
        .replace("manifest", &found, b.clone(), &info, patience)
        .await;
    assert_eq!(replaced.unwrap(), Put::Stored);
    some_lost();

    let (method, completion) = place.completion();
    proxy.lose(method, completion, times);
    let put = bucket
        .put("large", &large, &about(&large), &budget, patience)
        .await;
    assert_eq!(put.unwrap(), Put::Stored);
    some_lost();

    let staged = bucket
        .stage("small", &large, &about(&large), &budget, patience)
        .await
        .unwrap();
    proxy.lose(method, completion, times);
    bucket
        .overwrite(staged, &large, &about(&large), &budget, patience)
        .await
        .unwrap();
    some_lost();

    assert_eq!(place.see("manifest").await.unwrap().bytes, b);
    assert!(place.see("large").await.unwrap().bytes == pattern(LARGE));
    assert!(place.see("small").await.unwrap().bytes == pattern(LARGE));
    assert!(Stores::new([bucket]).cleaned(SOON).await);
    assert!(
        place.unfinished().await.is_empty(),
        "{:?}",
        place.unfinished().await
    );
}

/// Runs the program off the runtime's threads: the proxies live on them.
pub(crate) async fn run(arguments: &[&str]) -> Output {
    let arguments: Vec<String> = arguments.iter().map(|&text| text.into()).collect();
    let run = tokio::task::spawn_blocking(move || callvault(arguments));
    run.await.unwrap()
}

pub(crate) fn budget(place: &Place) -> Budget {
    Budget::new(&Limits {
        memory: 64 << 20,
        spool: 256 << 20,
        spool_dir: place.spool().to_owned(),
        job_time: SOON,
    })
}

pub(crate) async fn body(budget: &Budget, bytes: &[u8]) -> Body {
    let size = bytes.len() as u64;
    let mut writer = budget.writer(Some(size), size, None).await.unwrap();
    writer.write(Bytes::copy_from_slice(bytes)).await.unwrap();
    writer.finish().await.unwrap()
}

fn about(body: &Body) -> About {
    About {
        content_type: Some("audio/x-wav".into()),
        metadata: vec![
            ("call_id", "5e09%C3%BC".into()),
            ("sha256", body.sha256().to_string()),
        ],
    }
}

/// Bytes of which no two parts are the same: the number of its block, over and over.
fn pattern(length: usize) -> Vec<u8> {
    const BLOCK: usize = 4096;
    let blocks =
        (0..length.div_ceil(BLOCK)).flat_map(|n| [n.to_le_bytes(); BLOCK / size_of::<usize>()]);
    let mut bytes = blocks.collect::<Vec<_>>().concat();
    bytes.truncate(length);
    bytes
}
