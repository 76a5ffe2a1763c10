//! A disk is full: this machine's fault, or the archive's, never the event's.

use super::{DEADLINE, Scene, outages, times, wait_outage};
use crate::support::{
    audit::{Archive, Explained},
    config::{BUCKETS, Setup},
    disk::Disk,
    servers,
    worker::{Worker, command},
};

/// Events that come when the disk is full.
const LATER: usize = 12;
const RETRIED: &str = "outcome=\"retried\"";
/// As the log names it.
const SPOOL: &str = "the spool folder";

/// A worker that sees the disk, and consumes.
async fn worker_on(disk: &Disk, scene: &Scene) -> Worker {
    let mut run = command();
    run.arg("run").arg("--config").arg(scene.setup.write());
    let worker = Worker::spawn(disk.enter(&run), scene.setup.dir());
    worker.wait_log("consuming").await;
    worker
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_full_spool_is_waited_for_and_nothing_is_charged() {
    let mut scene = Scene::new(10, 2).await;
    let disk = Disk::mount(scene.setup.dir().join("spool"), 160);
    scene
        .setup
        .set("limits", "spool_dir", &format!("{:?}", disk.inside()));
    disk.fill_but(12 << 20);
    let worker = worker_on(&disk, &scene).await;
    // The large ones are the first of the load.
    let small = scene.load.calls.len() - 2;
    scene.publish_but(small).await;
    wait_outage(&worker, SPOOL, 1).await;
    // What stays in memory goes on, and says nothing of the disk.
    scene.publish_last(small).await;
    scene.wait_complete_but(2).await;
    assert_eq!(outages(&worker, SPOOL), (1, 0));

    disk.free();
    scene.wait_complete_but(0).await;
    assert_eq!(outages(&worker, SPOOL), (1, 1));
    assert_eq!(times(&worker, RETRIED), 0, "a job did not wait");
    // Each try began a download, with growing pauses.
    scene
        .audit(
            [worker],
            Explained {
                downloads: 24,
                ..Explained::default()
            },
        )
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_archive_on_a_full_disk_is_waited_for_and_nothing_is_charged_or_downloaded_again() {
    let broker = servers::rabbit().await;
    let mut setup = Setup::new(broker);
    let disk = Disk::mount(setup.dir().join("archive"), 32);
    for bucket in BUCKETS {
        setup.append(&format!(
            "[buckets.{bucket}]\nurl = \"file:archive/{bucket}\"\n"
        ));
    }
    let scene = Scene::bare(setup, Archive::Folder(disk.outside()), broker, 16, 0).await;
    let worker = worker_on(&disk, &scene).await;
    scene.publish_but(LATER).await;
    let archived = scene.load.calls.len() - LATER;
    scene.archive.wait_complete(archived, DEADLINE).await;
    disk.fill_but(0);
    scene.publish_last(LATER).await;
    worker.wait_log("part=\"bucket ").await;

    disk.free();
    scene.wait_complete_but(0).await;
    for bucket in BUCKETS {
        let (begun, ended) = outages(&worker, &format!("bucket {bucket}"));
        assert!(begun == ended && begun <= 1, "{}", worker.log());
    }
    assert_eq!(times(&worker, RETRIED), 0, "a job did not wait");
    scene.audit([worker], Explained::default()).await;
}
