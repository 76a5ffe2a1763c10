//! Three brokers, of which the one goes that leads the work queue.

use super::{DEADLINE, Scene, outages, wait_outage};
use crate::support::{
    audit::Explained,
    proxy::Proxy,
    servers::{self, Cluster},
    wait::eventually,
};

const BROKER: &str = "the broker";
/// Events at work in both workers, times their files.
const AT_WORK: usize = 2 * 4 * 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cluster_that_loses_the_leader_of_the_work_queue_loses_no_event() {
    let mut cluster = Cluster::start().await;
    let nodes: Vec<String> = cluster.urls().into_iter().map(str::to_owned).collect();
    let mut scene = Scene::at(&nodes[0], servers::s3().await.endpoint(), 60, 2).await;
    scene.linger();
    // One worker by way of a load balancer; who declares a queue has its leader on his node.
    let balancer = Proxy::before(&nodes[0]);
    scene.reach_broker_at(&balancer.instead(&nodes[0]));
    let on_the_leader = scene.worker().await;
    let queue = scene.setup.queue().to_owned();
    assert_eq!(cluster.leader_of(&queue).await, 0);
    scene.reach_broker_at(&nodes[1]);
    let on_another = scene.worker().await;
    scene.publish().await;
    let archived = scene.load.dice.within(5..15);
    scene.wait_manifests(archived).await;

    cluster.kill9(0).await;
    wait_outage(&on_the_leader, BROKER, 1).await;
    balancer.aim_at(&nodes[2]);
    // Until a queue has its next leader, whoever asks for its messages is refused.
    for queue in [queue.clone(), format!("{queue}.dead")] {
        assert_ne!(cluster.leader_of(&queue).await, 0);
    }
    scene.broker.clone_from(&nodes[1]);
    eventually(DEADLINE, "the first worker on another node", async || {
        (outages(&on_the_leader, BROKER) == (1, 1)).then_some(())
    })
    .await;

    // What was at work with one worker may have gone to the other, too.
    let explained = Explained {
        downloads: AT_WORK,
        ..Explained::default()
    };
    scene.audit([on_the_leader, on_another], explained).await;
}
