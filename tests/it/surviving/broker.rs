//! The broker is gone, mute, or takes its queue or its channel away.

use std::time::Duration;

use super::{DEADLINE, Scene, outages, wait_outage};
use crate::support::{
    audit::{Explained, consumers},
    origin::Reply,
    proxy::{Mode, Proxy},
    servers::{self, Conf, Kind, Server},
    wait::eventually,
};

const BROKER: &str = "the broker";
const PREFETCH: u32 = 4;
/// Events that are kept back until the fault is over.
const LAST: usize = 7;

/// Publishes the last events of the load, which stay in the worker for seconds, and sees that there is
/// one consumer, with its prefetch: so many are taken, and the rest waits.
async fn publish_last_to_one_consumer(scene: &Scene) {
    let (_, last) = scene.load.calls.split_at(scene.load.calls.len() - LAST);
    let amqp = scene.amqp().await;
    for call in last {
        // Pauses shorter than the read time-out.
        let bytes = call.files[1].bytes.len().div_ceil(4);
        let pause = Duration::from_millis(700);
        scene
            .origin
            .always(call.recording(), Reply::Drip { bytes, pause });
        call.publish(&amqp, &scene.setup.exchange()).await;
    }
    let left = u32::try_from(LAST).unwrap() - PREFETCH;
    let queue = scene.setup.queue();
    eventually(DEADLINE, "one consumer with its prefetch", async || {
        let found = (consumers(&amqp, queue).await, amqp.count(queue).await);
        (found == (1, Some(left))).then_some(())
    })
    .await;
    let begun = last
        .iter()
        .filter(|call| scene.origin.hits(call.recording()) > 0)
        .count();
    assert!(begun <= 4, "{begun} events at work at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_broker_that_is_killed_and_comes_back_finds_the_worker_and_loses_nothing() {
    let mut broker = Server::start(Kind::RabbitMq).await;
    let mut scene = Scene::at(broker.url(), servers::s3().await.endpoint(), 60, 1).await;
    scene.linger();
    let worker = scene.worker().await;
    scene.publish_but(LAST).await;
    for queue in scene.queues() {
        broker.wait_registered(&queue).await;
    }
    let archived = scene.load.dice.within(8..20);
    scene.wait_manifests(archived).await;

    broker.kill9().await;
    wait_outage(&worker, BROKER, 1).await;
    assert_eq!(worker.get("/readyz").await.0, 503);
    assert_eq!(
        worker.metrics().await.count("callvault_broker_connected"),
        0
    );
    broker.restart().await;
    worker.wait_readyz(200).await;

    assert_eq!(outages(&worker, BROKER), (1, 1));

    publish_last_to_one_consumer(&scene).await;
    // What was at work was finished meanwhile, and found when it came again.
    scene.audit([worker], Explained::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_that_is_cut_again_and_again_loses_nothing_and_repeats_no_download() {
    let broker = servers::rabbit().await;
    let mut scene = Scene::new(60, 2).await;
    let proxy = Proxy::before(broker);
    scene.reach_broker_at(&proxy.instead(broker));
    scene.linger();
    let worker = scene.worker().await;
    scene.publish_but(LAST).await;
    let mut archived = 0;
    for cut in 1..=4 {
        archived += scene.load.dice.within(3..8);
        scene.wait_manifests(archived).await;
        proxy.cut();
        wait_outage(&worker, BROKER, cut).await;
        worker.wait_readyz(200).await;
    }
    publish_last_to_one_consumer(&scene).await;
    scene.audit([worker], Explained::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_that_falls_mute_is_noticed_by_its_heartbeats() {
    let broker = servers::rabbit().await;
    let mut scene = Scene::new(40, 1).await;
    let proxy = Proxy::before(broker);
    scene.reach_broker_at(&format!("{}?heartbeat=1", proxy.instead(broker)));
    scene.linger();
    let worker = scene.worker().await;
    scene.publish_but(LAST).await;
    let archived = scene.load.dice.within(3..12);
    scene.wait_manifests(archived).await;

    proxy.set(Mode::BlackHole);
    wait_outage(&worker, BROKER, 1).await;
    let (status, reason) = worker.get("/readyz").await;
    assert_eq!(status, 503, "{reason}");
    proxy.set(Mode::Pass);
    worker.wait_readyz(200).await;

    publish_last_to_one_consumer(&scene).await;
    scene.audit([worker], Explained::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_queue_that_is_deleted_is_declared_again_and_what_was_at_work_is_finished() {
    let scene = Scene::new(20, 0).await;
    let worker = scene.worker().await;
    scene.publish_but(LAST + 2).await;
    let first = scene.load.calls.len() - LAST - 2;
    scene.archive.wait_complete(first, DEADLINE).await;
    let amqp = scene.amqp().await;
    // Two that are at work when their queue goes, and their messages with it.
    for call in &scene.load.calls[first..first + 2] {
        let bytes = call.files[1].bytes.len().div_ceil(4);
        let pause = Duration::from_millis(300);
        scene
            .origin
            .always(call.recording(), Reply::Drip { bytes, pause });
        call.publish(&amqp, &scene.setup.exchange()).await;
        eventually(DEADLINE, "the download to begin", async || {
            (scene.origin.hits(call.recording()) > 0).then_some(())
        })
        .await;
    }
    amqp.delete(scene.setup.queue()).await;
    wait_outage(&worker, BROKER, 1).await;
    worker.wait_readyz(200).await;

    publish_last_to_one_consumer(&scene).await;
    scene.audit([worker], Explained::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_consumer_that_the_broker_times_out_starts_again_and_its_event_is_archived_once() {
    let conf = Conf {
        terms: vec![
            "{consumer_timeout, 2000}".into(),
            "{channel_tick_interval, 500}".into(),
        ],
        ..Conf::default()
    };
    let broker = Server::start_with(Kind::RabbitMq, &conf).await;
    let scene = Scene::at(broker.url(), servers::s3().await.endpoint(), 20, 0).await;
    // Its download takes longer than the broker lets a consumer take.
    let slow = &scene.load.calls[1];
    let bytes = slow.files[1].bytes.len().div_ceil(7);
    let pause = Duration::from_millis(600);
    scene
        .origin
        .always(slow.recording(), Reply::Drip { bytes, pause });
    let worker = scene.worker().await;
    scene.publish().await;
    wait_outage(&worker, BROKER, 1).await;
    worker.wait_readyz(200).await;
    scene.audit([worker], Explained::default()).await;
}
