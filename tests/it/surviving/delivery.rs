//! The same event more than once: one effect.

use super::{DEADLINE, Scene};
use crate::support::{audit::Explained, origin::Reply, wait::eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_event_delivered_to_two_workers_at_once_and_again_later_is_archived_once() {
    let mut scene = Scene::new(1, 1).await;
    scene.setup.set("queue", "prefetch", "1");
    let path = scene.load.calls[0].recording().to_owned();
    // Slow enough for both to be at it: a place each, and neither is done before the other begins.
    scene.origin.first(
        &path,
        2,
        &Reply::Drip {
            bytes: 1 << 20,
            pause: std::time::Duration::from_millis(50),
        },
    );
    let workers = [scene.worker().await, scene.worker().await];
    scene.publish().await;
    scene.publish().await;
    eventually(DEADLINE, "both workers to be at it", async || {
        (scene.origin.hits(&path) == 2).then_some(())
    })
    .await;
    assert!(
        scene.archive.manifests().await.is_empty(),
        "one was done before the other began"
    );
    let outcomes = |outcome: &str| -> usize {
        workers
            .iter()
            .map(|worker| super::times(worker, outcome))
            .sum()
    };
    eventually(DEADLINE, "both deliveries to be settled", async || {
        (outcomes("outcome=\"archived\"") + outcomes("outcome=\"duplicate\"") == 2).then_some(())
    })
    .await;

    // Later, to a worker that knows nothing of it.
    assert!(scene.stop(workers).await.is_empty());
    let hits = || {
        scene
            .load
            .files()
            .map(|file| scene.origin.hits(&file.path))
            .sum::<usize>()
    };
    let before = hits();
    let later = scene.worker().await;
    scene.publish().await;
    later.wait_log("outcome=\"duplicate\"").await;
    assert_eq!(hits(), before, "it was downloaded again");
    // The second worker's downloads are explained: neither knew of the other.
    scene
        .audit(
            [later],
            Explained {
                downloads: 3,
                ..Explained::default()
            },
        )
        .await;
}
