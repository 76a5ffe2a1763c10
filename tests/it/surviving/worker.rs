//! Workers that are killed.

use std::time::Duration;

use super::{DEADLINE, Scene};
use crate::support::{
    audit::Explained,
    gateway::{Gateway, Rule},
    origin::Reply,
    servers,
    wait::eventually,
    worker::Worker,
};

const PREFETCH: usize = 4;

/// A worker with a gateway of its own before the store, so that its uploads can be told from others'.
struct Watched {
    worker: Worker,
    gateway: Gateway,
}

impl Watched {
    async fn start(scene: &Scene) -> Self {
        let gateway = Gateway::before(servers::s3().await.endpoint()).await;
        let worker = Self::run(scene, &gateway).await;
        Self { worker, gateway }
    }

    async fn run(scene: &Scene, gateway: &Gateway) -> Worker {
        let endpoint = gateway.endpoint();
        let variable = |bucket| format!("CALLVAULT__BUCKETS__{bucket}__OPTIONS__ENDPOINT");
        let variables = ["DOCUMENTS", "RECORDINGS", "QUARANTINE"].map(variable);
        let environment = variables.each_ref().map(|name| (&**name, &*endpoint));
        scene.worker_with(&[], &environment).await
    }

    /// Kills it like a crash, and starts another in its place.
    async fn replace(&mut self, scene: &Scene) {
        self.worker.kill9();
        self.gateway.set(Rule::Pass);
        self.worker = Self::run(scene, &self.gateway).await;
    }
}

/// Waits until a request of one of them has left it and has no answer, and says whose.
async fn first_held(workers: &[Watched; 2], rule: Rule) -> usize {
    let before = workers.each_ref().map(|watched| watched.gateway.held());
    for watched in workers {
        watched.gateway.set(rule);
    }
    let held = eventually(DEADLINE, "a request to be held", async || {
        (0..workers.len()).find(|&at| workers[at].gateway.held() > before[at])
    })
    .await;
    workers[1 - held].gateway.set(Rule::Pass);
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn workers_that_are_killed_in_the_middle_of_uploads_lose_nothing() {
    let kills = 6;
    let scene = Scene::new(kills * 7, kills).await;
    let mut workers = [Watched::start(&scene).await, Watched::start(&scene).await];
    let amqp = scene.amqp().await;
    for kill in 0..kills {
        // Each with a large recording: they are the first of the load.
        for call in scene.load.calls.iter().skip(kill).step_by(kills) {
            call.publish(&amqp, &scene.setup.exchange()).await;
        }
        // Between parts of the large recording, and anywhere, a manifest's own write included.
        let rule = if kill % 2 == 0 {
            Rule::HoldParts
        } else {
            Rule::Hold
        };
        let victim = first_held(&workers, rule).await;
        workers[victim].replace(&scene).await;
    }
    let explained = Explained {
        downloads: kills * PREFETCH * 3,
        uploads: true,
        ..Explained::default()
    };
    let [one, two] = workers;
    let _gateways = (one.gateway, two.gateway);
    scene.audit([one.worker, two.worker], explained).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_message_that_kills_its_worker_each_time_is_dead_and_its_neighbours_are_archived() {
    let scene = Scene::new(PREFETCH + 4, 0).await;
    let (poison, neighbours) = scene.load.calls.split_first().unwrap();
    scene.origin.always(poison.recording(), Reply::Mute);
    // The poison is faster: a neighbour that is begun with it dies with it, and is counted, too.
    for call in neighbours {
        let bytes = call.files[1].bytes.len().div_ceil(3);
        let pause = Duration::from_millis(100);
        scene
            .origin
            .always(call.recording(), Reply::Drip { bytes, pause });
    }
    let amqp = scene.amqp().await;
    let dead = format!("{}.dead", scene.setup.queue());
    let mut worker = scene.worker().await;
    scene.publish().await;
    let mut kills = 0;
    loop {
        let what = "the poison to be at work, or dead";
        let died = eventually(Duration::from_secs(20), what, async || {
            let at_work = scene.origin.hits(poison.recording()) > kills;
            let died = amqp.count(&dead).await > Some(0);
            (at_work || died).then_some(died)
        });
        if died.await {
            break;
        }
        kills += 1;
        assert!(kills <= 21, "the first delivery, and 20 more");
        worker.kill9();
        worker = scene.worker().await;
    }
    assert_eq!(kills, 21);
    scene.wait_complete_but(1).await;
    let letters = scene.stop([worker]).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(
        letters[0].text("x-first-death-reason").as_deref(),
        Some("delivery_limit")
    );
    assert_eq!(letters[0].body, poison.body, "byte for byte");
    let explained = Explained {
        downloads: kills * PREFETCH * 3,
        dead: vec![poison.request_id.clone()],
        ..Explained::default()
    };
    scene
        .archive
        .audit(&scene.load, &scene.origin, &letters, &explained)
        .await;
}
