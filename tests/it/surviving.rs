//! Nothing is lost, whatever is killed, cut off, full or slow.
//!
//! Each test puts workers under a load, makes one part fail, and audits from outside
//! ([`crate::support::audit`]): every event is archived with a complete manifest and the right bytes, or
//! dead for a reason of its own; nothing was charged or downloaded again without need. What a load is made
//! of, and when a fault strikes, comes from a seed that a failing test tells ([`crate::support::load`]).
//!
//! Origin, proxies and gateways run beside the test, on a thread of their own: a test may block while it
//! kills a server, and must not make them mute with it.

mod broker;
mod cluster;
mod delivery;
mod disk;
mod origin;
mod stopping;
mod store;
mod worker;

use std::time::Duration;

use crate::support::{
    amqp::{Amqp, Message},
    audit::{Archive, Explained},
    config::{BUCKETS, Setup},
    load::{Call, Load},
    origin::{Origin, Reply},
    s3::S3,
    servers,
    wait::eventually,
    worker::{Worker, command},
};

/// For a load to be archived, with four tests beside it.
const DEADLINE: Duration = Duration::from_mins(1);

/// A load at an origin, a queue for it, and the archive that it is to end in.
struct Scene {
    setup: Setup,
    origin: Origin,
    load: Load,
    archive: Archive,
    /// The broker's URL, past any proxy.
    broker: String,
}

impl Scene {
    /// At the shared broker and the shared S3 server.
    async fn new(events: usize, large: usize) -> Self {
        let (broker, s3) = (servers::rabbit().await, servers::s3().await);
        Self::at(broker, s3.endpoint(), events, large).await
    }

    /// At any broker and S3 server; `large` of the events have a recording that goes up in parts.
    async fn at(broker: &str, endpoint: &str, events: usize, large: usize) -> Self {
        let mut setup = Setup::new(broker);
        for bucket in BUCKETS {
            let url = format!("s3://{}/{}", S3::BUCKET, setup.prefix(bucket));
            setup.append(&format!("[buckets.{bucket}]\nurl = \"{url}\"\n"));
        }
        let archive = Archive::S3 {
            s3: S3::at(endpoint),
            prefix: setup.name.clone(),
        };
        let mut scene = Self::bare(setup, archive, broker, events, large).await;
        scene.reach_store_at(endpoint, "");
        scene
    }

    /// With buckets that the setup has already.
    async fn bare(
        mut setup: Setup,
        archive: Archive,
        broker: &str,
        events: usize,
        large: usize,
    ) -> Self {
        // A busy machine must not look like a mute origin.
        setup.set("fetch", "read_timeout", "\"5s\"");
        let origin = Origin::start().await;
        let load = Load::new(&origin.url(""), events, large);
        load.serve(&origin);
        Self {
            setup,
            origin,
            load,
            archive,
            broker: broker.to_owned(),
        }
    }

    /// Has workers reach the broker by another URL.
    fn reach_broker_at(&mut self, url: &str) {
        self.setup.set("queue", "url", &format!("{url:?}"));
    }

    /// Has workers reach the store by another endpoint, with more options: `key = "value", `.
    fn reach_store_at(&mut self, endpoint: &str, options: &str) {
        for bucket in BUCKETS {
            let options = format!(
                "{{ {options}endpoint = \"{endpoint}\", region = \"us-east-1\", allow_http = \"true\", \
                 access_key_id = \"any\", secret_access_key = \"any\" }}"
            );
            self.setup
                .set(&format!("buckets.{bucket}"), "options", &options);
        }
    }

    /// Makes each small recording take some tenths of a second, so that a load is under way for a while.
    fn linger(&self) {
        let reply = Reply::Drip {
            bytes: 10_000,
            pause: Duration::from_millis(50),
        };
        for call in &self.load.calls {
            if call.files[1].bytes.len() < 100_000 {
                self.origin.always(call.recording(), reply.clone());
            }
        }
    }

    /// A worker that consumes.
    async fn worker(&self) -> Worker {
        self.worker_with(&[], &[]).await
    }

    /// A worker that consumes, with more arguments and environment.
    async fn worker_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Worker {
        let mut run = command();
        run.arg("run")
            .arg("--config")
            .arg(self.setup.write())
            .args(arguments);
        run.envs(environment.iter().copied());
        let worker = Worker::spawn(run, self.setup.dir());
        worker.wait_log("consuming").await;
        worker
    }

    async fn amqp(&self) -> Amqp {
        Amqp::connect(&self.broker).await
    }

    /// Publishes the load.
    async fn publish(&self) {
        self.publish_but(0).await;
    }

    /// Publishes the load but for its last events.
    async fn publish_but(&self, last: usize) {
        let calls = &self.load.calls;
        self.publish_calls(&calls[..calls.len() - last]).await;
    }

    /// Publishes what [`Self::publish_but`] left.
    async fn publish_last(&self, last: usize) {
        let calls = &self.load.calls;
        self.publish_calls(&calls[calls.len() - last..]).await;
    }

    async fn publish_calls(&self, calls: &[Call]) {
        let amqp = self.amqp().await;
        for call in calls {
            call.publish(&amqp, &self.setup.exchange()).await;
        }
    }

    /// Waits until so many events have a manifest, of whichever status.
    async fn wait_manifests(&self, count: usize) {
        let what = format!("{count} manifests");
        eventually(DEADLINE, &what, async || {
            (self.archive.manifests().await.len() >= count).then_some(())
        })
        .await;
    }

    /// Waits until all but so many events are complete.
    async fn wait_complete_but(&self, dead: usize) {
        self.archive
            .wait_complete(self.load.calls.len() - dead, DEADLINE)
            .await;
    }

    fn queues(&self) -> Vec<String> {
        let work = self.setup.queue();
        let delays = ["200ms", "400ms"].map(|delay| format!("{work}.retry.{delay}"));
        [vec![work.to_owned()], delays.to_vec()].concat()
    }

    /// Waits until nothing waits to be worked on, stops the workers, and sees that nothing came back:
    /// all was acknowledged. Gives the dead letters.
    async fn stop(&self, workers: impl IntoIterator<Item = Worker>) -> Vec<Message> {
        let amqp = self.amqp().await;
        for queue in self.queues() {
            amqp.wait_count(&queue, 0).await;
        }
        for mut worker in workers {
            worker.term();
            assert!(
                worker.wait_exit(DEADLINE).await.success(),
                "exit code of a drain"
            );
        }
        for queue in self.queues() {
            assert_eq!(amqp.count(&queue).await, Some(0), "left in {queue}");
        }
        amqp.take_all(&format!("{}.dead", self.setup.queue())).await
    }

    /// Waits for the end of the load, stops the workers, and audits.
    async fn audit(&self, workers: impl IntoIterator<Item = Worker>, explained: Explained) {
        self.wait_complete_but(explained.dead.len()).await;
        let dead = self.stop(workers).await;
        self.archive
            .audit(&self.load, &self.origin, &dead, &explained)
            .await;
    }
}

/// How often a log holds a text.
fn times(worker: &Worker, text: &str) -> usize {
    worker.log().matches(text).count()
}

/// Waits until a log holds a text so many times.
async fn wait_times(worker: &Worker, text: &str, count: usize) {
    let what = format!("{count} times {text:?} in the worker's log");
    eventually(DEADLINE, &what, async || {
        (times(worker, text) >= count).then_some(())
    })
    .await;
}

/// How often a worker said that a part does not work, and that it works again.
fn outages(worker: &Worker, part: &str) -> (usize, usize) {
    let (log, part) = (worker.log(), format!("part=\"{part}\""));
    let told = |text: &str| {
        let lines = log.lines().filter(|line| line.contains(&part));
        lines.filter(|line| line.contains(text)).count()
    };
    (told("does not work; waiting for it"), told("works again"))
}

/// Waits until a worker has said so many times that a part does not work.
async fn wait_outage(worker: &Worker, part: &str, count: usize) {
    let what = format!("outage {count} of {part}");
    eventually(DEADLINE, &what, async || {
        (outages(worker, part).0 >= count).then_some(())
    })
    .await;
}
