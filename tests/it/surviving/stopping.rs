//! Workers that are told to stop.

use std::time::{Duration, Instant};

use super::{DEADLINE, Scene};
use crate::support::{
    audit::Explained,
    gateway::{Gateway, Rule},
    servers,
    wait::eventually,
};

/// One large recording whose parts are held on their way to the store.
async fn held_upload(scene: &mut Scene) -> Gateway {
    let gateway = Gateway::before(servers::s3().await.endpoint()).await;
    gateway.set(Rule::HoldParts);
    scene.reach_store_at(&gateway.endpoint(), "");
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_worker_that_is_drained_under_load_settles_what_it_has_and_leaves_nothing_temporary() {
    let mut scene = Scene::new(24, 4).await;
    scene.linger();
    scene.setup.set("limits", "spool_dir", "\"spool\"");
    let spool = scene.setup.dir().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let mut worker = scene.worker().await;
    scene.publish().await;
    let archived = scene.load.dice.within(1..8);
    scene.wait_manifests(archived).await;

    worker.term();
    assert!(worker.wait_exit(DEADLINE).await.success());
    let (archived, amqp) = (scene.archive.manifests().await.len(), scene.amqp().await);
    let left = scene.load.calls.len() - archived;
    assert!(left > 0, "it went on consuming");
    amqp.wait_count(scene.setup.queue(), u32::try_from(left).unwrap())
        .await;
    assert!(scene.archive.uploads().await.is_empty());
    assert_eq!(
        std::fs::read_dir(&spool).unwrap().count(),
        0,
        "files in the spool"
    );

    // What was prefetched and not begun was handed back without a download.
    let second = scene.worker().await;
    scene.audit([second], Explained::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grace_that_ends_in_the_middle_of_an_upload_hands_the_event_back_and_aborts_the_upload() {
    let mut scene = Scene::new(1, 1).await;
    let gateway = held_upload(&mut scene).await;
    let mut worker = scene.worker_with(&["--grace", "300ms"], &[]).await;
    scene.publish().await;
    gateway.wait_held(0, 1).await;
    assert_eq!(scene.archive.uploads().await.len(), 1);

    worker.term();
    assert!(worker.wait_exit(DEADLINE).await.success());
    scene.amqp().await.wait_count(scene.setup.queue(), 1).await;
    let uploads = scene.archive.uploads().await;
    assert!(uploads.is_empty(), "left behind: {uploads:?}");

    gateway.set(Rule::Pass);
    let second = scene.worker().await;
    scene
        .audit(
            [second],
            Explained {
                downloads: 3,
                ..Explained::default()
            },
        )
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_second_signal_ends_a_worker_at_once_and_loses_nothing() {
    let mut scene = Scene::new(1, 1).await;
    let gateway = held_upload(&mut scene).await;
    let mut worker = scene.worker_with(&["--grace", "5m"], &[]).await;
    scene.publish().await;
    gateway.wait_held(0, 1).await;

    worker.term();
    worker.wait_log("stopping").await;
    assert!(worker.is_running(), "it waits for the upload");
    let signalled = Instant::now();
    worker.term();
    worker.wait_exit(DEADLINE).await;
    assert!(signalled.elapsed() < Duration::from_secs(5));
    scene.amqp().await.wait_count(scene.setup.queue(), 1).await;

    gateway.set(Rule::Pass);
    let second = scene.worker().await;
    eventually(DEADLINE, "the event to be archived", async || {
        (super::times(&second, "outcome=\"archived\"") == 1).then_some(())
    })
    .await;
    let explained = Explained {
        downloads: 3,
        uploads: true,
        ..Explained::default()
    };
    scene.audit([second], explained).await;
}
