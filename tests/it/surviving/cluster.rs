//! Three brokers, of which the one goes that leads the work queue.

use super::{Scene, wait_outage};
use crate::support::{
    audit::Explained,
    servers::{self, Cluster},
};

const BROKER: &str = "the broker";
/// Events at work in both workers, times their files.
const AT_WORK: usize = 2 * 4 * 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cluster_that_loses_the_leader_of_the_work_queue_loses_no_event() {
    let mut cluster = Cluster::start().await;
    let first = cluster.url(0).to_owned();
    let mut scene = Scene::at(&first, servers::s3().await.endpoint(), 60, 2).await;
    scene.linger();
    let queue = scene.setup.queue().to_owned();
    // Who declares a queue has its leader on his node.
    let on_the_leader = scene.worker().await;
    let leader = cluster.leader_of(&queue).await;
    assert_eq!(leader, 0);
    let other = cluster.url(1).to_owned();
    scene.reach_broker_at(&other);
    let on_another = scene.worker().await;
    scene.publish().await;
    let archived = scene.load.dice.within(5..15);
    scene.wait_manifests(archived).await;

    cluster.kill9(leader).await;
    // Whatever the other node's worker notices, it goes on with the queue's next leader.
    scene.broker.clone_from(&other);
    wait_outage(&on_the_leader, BROKER, 1).await;
    assert_ne!(cluster.leader_of(&queue).await, leader);
    // What was at work with one worker may have gone to the other, too.
    let explained = Explained {
        downloads: AT_WORK,
        ..Explained::default()
    };
    scene.audit([on_the_leader, on_another], explained).await;
}
