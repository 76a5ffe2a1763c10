//! Mutated events, recordings and JSON files, hundreds of each, through a running worker.
//!
//! The worker stays alive, and an audit from outside finds each event once: archived, quarantined, ignored or
//! dead, its message and its files byte for byte as they came. What is mutated, and how, comes from a seed
//! that a failing test tells, and `CALLVAULT_IT_SEED` sets.

mod audit;
mod bytes;
mod events;
mod files;

use std::{collections::BTreeMap, time::Duration};

use ::bytes::Bytes;
use serde_json::Value;

use self::audit::{Audit, Ends};
use crate::support::{
    amqp::Amqp,
    audit::Archive,
    call,
    config::Setup,
    load::{Dice, Seed},
    origin::Origin,
    servers,
    wait::eventually,
    worker::{Worker, most_memory},
};

/// What each test mutates so many of.
const COUNT: usize = 500;
/// How many files an event has, where files are mutated.
const FILES: usize = 4;

const DEADLINE: Duration = Duration::from_mins(1);

/// More than a worker of a debug build takes with the limits of [`Setup`].
const MOST_MIB: u64 = 300;

/// What is published, and what the origin serves: by the path of its URLs.
struct Scene {
    setup: Setup,
    origin: Origin,
    files: BTreeMap<String, Bytes>,
    events: Vec<Bytes>,
}

impl Scene {
    async fn new() -> Self {
        let mut setup = Setup::folders().await;
        setup
            .set("queue", "prefetch", "16")
            .set("fetch", "allowed_hosts", r#"["127.0.0.1"]"#)
            .set("fetch", "read_timeout", "\"5s\"");
        Self {
            setup,
            origin: Origin::start().await,
            files: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// Serves a file, and says where.
    fn serve(&mut self, path: String, bytes: Bytes) -> String {
        let url = self.origin.url(&path);
        self.origin.put(&path, bytes.clone(), "text/plain");
        self.files.insert(path, bytes);
        url
    }

    /// Events that list [`COUNT`] files.
    fn list(
        &mut self,
        dice: &mut Dice,
        mut make: impl FnMut(usize, &mut Dice) -> (&'static str, Vec<u8>),
    ) {
        for event in 0..COUNT / FILES {
            let mut urls = Vec::new();
            for n in 0..FILES {
                let (name, bytes) = make(n, dice);
                urls.push(self.serve(format!("/{event}/{n}/{name}"), bytes.into()));
            }
            let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
            let body = String::from_utf8(call::with_urls(&urls).into()).unwrap();
            self.events.push(events::fresh(dice, &body).into());
        }
    }

    /// Publishes everything, waits until a worker has settled it, and audits.
    async fn run(&self) -> Ends {
        let mut worker = Worker::start(&self.setup.write());
        worker.wait_log("consuming").await;
        let amqp = Amqp::connect(servers::rabbit().await).await;
        for body in &self.events {
            amqp.publish(&self.setup.exchange(), "call.analyzed", None, body)
                .await;
        }
        let what = format!("{} settled events", self.events.len());
        eventually(DEADLINE, &what, async || {
            assert!(worker.is_running(), "the worker died");
            (audit::settled(&worker.log()).total() >= self.events.len()).then_some(())
        })
        .await;
        let memory = most_memory(worker.id());
        assert!(memory < MOST_MIB, "{memory} MiB");
        worker.term();
        assert!(worker.wait_exit(DEADLINE).await.success());
        let work = self.setup.queue();
        for queue in ["", ".retry.200ms", ".retry.400ms"] {
            assert_eq!(amqp.count(&format!("{work}{queue}")).await, Some(0));
        }
        let audit = Audit {
            archive: Archive::Folder(self.setup.dir().join("archive")),
            dead: amqp.take_all(&format!("{work}.dead")).await,
            log: worker.log(),
            scene: self,
        };
        audit.run().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_500_mutated_events_each_one_is_archived_ignored_or_dead_as_it_came() {
    let seed = Seed::choose();
    let mut scene = Scene::new().await;
    let sample = call::served(&scene.origin);
    let base = scene.origin.url("");
    let event: Value = serde_json::from_slice(&sample).unwrap();
    let listed = event["data"]["attachments"].as_array().unwrap();
    for (listed, (_, _, bytes)) in listed.iter().zip(call::files()) {
        let path = listed["url"].as_str().unwrap().strip_prefix(&base).unwrap();
        scene.serve(path.to_owned(), bytes.clone());
    }
    scene.serve("/recording.wav".into(), call::wav(800));
    let sample = str::from_utf8(&sample).unwrap();
    scene.events = events::mutated(&mut Dice::new(&seed), sample, &base, COUNT);
    let ends = scene.run().await;
    // Each way is taken, or the mutations are not worth their name.
    let all = ends.archived >= 50 && ends.dead >= 50 && ends.ignored >= 5 && ends.duplicate >= 5;
    assert!(all, "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_500_mutated_recordings_each_one_is_kept_as_it_came_and_those_archived_can_be_played() {
    let (seed, mut scene) = (Seed::choose(), Scene::new().await);
    scene.setup.append(files::KINDS);
    scene.list(&mut Dice::new(&seed), |_, dice| {
        ("recording.wav", files::recording(dice))
    });
    let ends = scene.run().await;
    assert_kept(&ends);
    files::sox_agrees(&scene.setup.folder("recordings"), &ends.kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_500_mutated_json_files_each_one_is_kept_as_it_came_and_those_archived_can_be_read() {
    let (seed, mut scene) = (Seed::choose(), Scene::new().await);
    scene.list(&mut Dice::new(&seed), |n, dice| match n % 2 {
        0 => ("analysis.json", files::analysis(dice)),
        _ => ("transcript.json", files::transcript(dice)),
    });
    let ends = scene.run().await;
    assert_kept(&ends);
    files::python_agrees(&scene.setup.folder("documents"), &ends.kept);
}

/// Every event is complete, and of its files many passed and many did not.
fn assert_kept(ends: &Ends) {
    let (archived, quarantined) = (ends.files("archived"), ends.files("quarantined"));
    assert_eq!(ends.archived, COUNT / FILES);
    assert_eq!(archived + quarantined, COUNT);
    assert!(
        archived >= COUNT / 10 && quarantined >= COUNT / 10,
        "{archived} passed"
    );
}
