//! The store is gone, mute or overloaded: jobs wait, and nothing of it is the events' fault.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::{BUCKETS, DEADLINE, Scene, outages, times, wait_times};
use crate::support::{
    audit::Explained,
    gateway::{Gateway, Rule},
    origin::Reply,
    proxy::{Mode, Proxy},
    servers::{self, Kind, Server},
    wait::eventually,
    worker::{Worker, command},
};

/// For each bucket there is one line when its outage begins and one when it ends, however many jobs wait.
fn assert_told_once(worker: &Worker) {
    let told =
        ["documents", "recordings"].map(|bucket| outages(worker, &format!("bucket {bucket}")));
    assert!(
        told.contains(&(1, 1)),
        "begun and ended: {told:?}\n{}",
        worker.log()
    );
    for told in told {
        assert!(
            [(0, 0), (1, 1)].contains(&told),
            "begun and ended: {told:?}\n{}",
            worker.log()
        );
    }
}

/// Waits until a worker has noticed that its store does not work.
async fn wait_noticed(worker: &Worker) {
    worker.wait_log("part=\"bucket ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_store_that_answers_503_is_waited_for_and_nothing_is_charged_or_downloaded_again() {
    let mut scene = Scene::new(24, 1).await;
    let gateway = Gateway::before(servers::s3().await.endpoint()).await;
    scene.reach_store_at(&gateway.endpoint(), "");
    scene.linger();
    let worker = scene.worker().await;
    scene.publish().await;
    let archived = scene.load.dice.within(4..8);
    scene.wait_manifests(archived).await;

    gateway.set(Rule::Busy);
    // Every place of the worker's is taken by a job that waits: nothing more is consumed.
    let amqp = scene.amqp().await;
    wait_noticed(&worker).await;
    let downloads = || {
        scene
            .load
            .files()
            .map(|file| scene.origin.hits(&file.path))
            .sum::<usize>()
    };
    let begun = eventually(DEADLINE, "the intake to stop", async || {
        let (before, refused) = (downloads(), gateway.count(|_, _| true));
        eventually(DEADLINE, "every job to meet the outage again", async || {
            (gateway.count(|_, _| true) > refused + 24).then_some(())
        })
        .await;
        (downloads() == before).then_some(before)
    })
    .await;
    assert!(
        begun < scene.load.files().count(),
        "all was downloaded during the outage"
    );
    assert!(amqp.count(scene.setup.queue()).await > Some(0));

    gateway.set(Rule::Pass);
    scene.wait_complete_but(0).await;
    assert_told_once(&worker);
    assert_eq!(times(&worker, "outcome=\"retried\""), 0);
    scene.audit([worker], Explained::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_store_that_is_killed_and_comes_back_gets_everything() {
    let mut s3 = Server::start(Kind::SeaweedFs).await;
    let mut scene = Scene::at(servers::rabbit().await, s3.url(), 24, 2).await;
    scene.linger();
    let worker = scene.worker().await;
    scene.publish().await;
    let archived = scene.load.dice.within(2..10);
    scene.wait_manifests(archived).await;

    s3.kill9().await;
    wait_noticed(&worker).await;
    s3.restart().await;

    // What was under way when the store died may have to be sent twice, never fetched twice.
    scene.audit([worker], Explained::uploads()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_store_that_falls_mute_is_given_up_on_request_by_request_and_waited_for() {
    let mut scene = Scene::new(16, 1).await;
    let endpoint = servers::s3().await.endpoint().to_owned();
    let proxy = Proxy::before(&endpoint);
    scene.reach_store_at(&proxy.instead(&endpoint), "timeout = \"2s\", ");
    scene.linger();
    let worker = scene.worker().await;
    scene.publish().await;
    let archived = scene.load.dice.within(2..8);
    scene.wait_manifests(archived).await;

    proxy.set(Mode::BlackHole);
    wait_noticed(&worker).await;
    proxy.set(Mode::Pass);

    scene.wait_complete_but(0).await;
    assert_told_once(&worker);
    // An upload whose beginning was swallowed has no name to abort it by.
    scene.audit([worker], Explained::uploads()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_store_that_is_slow_is_no_fault_at_all() {
    let mut scene = Scene::new(8, 1).await;
    let endpoint = servers::s3().await.endpoint().to_owned();
    let proxy = Proxy::before(&endpoint);
    proxy.set(Mode::Slow {
        bytes: 16 << 10,
        pause: Duration::from_millis(2),
    });
    scene.reach_store_at(&proxy.instead(&endpoint), "");
    let worker = scene.worker().await;
    scene.publish().await;
    scene.wait_complete_but(0).await;
    // Of the store: RabbitMQ 3.10 may fail by itself over a queue that was declared this moment.
    assert_eq!(times(&worker, "part=\"bucket"), 0);
    scene.audit([worker], Explained::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_outage_longer_than_a_jobs_time_sends_it_to_a_delay_queue_uncharged() {
    let mut scene = Scene::new(4, 0).await;
    let gateway = Gateway::before(servers::s3().await.endpoint()).await;
    scene.reach_store_at(&gateway.endpoint(), "");
    scene
        .setup
        .set("fetch", "read_timeout", "\"2s\"")
        .set("limits", "job_time", "\"4s\"");
    gateway.set(Rule::Busy);
    let worker = scene.worker().await;
    scene.publish().await;
    // More often than there are delays: an event that was charged would be dead.
    let rounds = 3 * scene.load.calls.len();
    wait_times(&worker, "outcome=\"retried\"", rounds).await;
    gateway.set(Rule::Pass);
    scene.wait_complete_but(0).await;
    let rounds = times(&worker, "outcome=\"retried\"");
    // What a job gave back it has to fetch again.
    scene
        .audit(
            [worker],
            Explained {
                downloads: 3 * rounds,
                ..Explained::default()
            },
        )
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn time_that_the_store_took_from_a_job_is_not_charged_to_its_origin() {
    let mut scene = Scene::new(1, 0).await;
    let gateway = Gateway::before(servers::s3().await.endpoint()).await;
    scene.reach_store_at(&gateway.endpoint(), "");
    scene
        .setup
        .set("fetch", "read_timeout", "\"2s\"")
        .set("limits", "job_time", "\"5s\"");
    // Half of the job's time is enough for the download, and less is not.
    let recording = &scene.load.calls[0].files[1];
    let bytes = recording.bytes.len().div_ceil(4);
    let pause = Duration::from_millis(600);
    scene
        .origin
        .always(&recording.path, Reply::Drip { bytes, pause });
    gateway.set(Rule::Busy);
    let worker = scene.worker().await;
    scene.publish().await;
    wait_noticed(&worker).await;
    // An outage is nothing but time that passes.
    let noticed = Instant::now();
    eventually(DEADLINE, "the store to take its time", async || {
        (noticed.elapsed() > Duration::from_millis(2700)).then_some(())
    })
    .await;
    gateway.set(Rule::Pass);
    scene.wait_complete_but(0).await;
    assert_eq!(times(&worker, "charged=true"), 0, "{}", worker.log());
    scene
        .audit(
            [worker],
            Explained {
                downloads: 6,
                ..Explained::default()
            },
        )
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_store_whose_client_panics_is_waited_for_like_any_other() {
    let mut scene = Scene::new(4, 0).await;
    scene
        .setup
        .set("fetch", "read_timeout", "\"2s\"")
        .set("limits", "job_time", "\"4s\"");
    let endpoint = servers::s3().await.endpoint().to_owned();
    let options =
        format!("{{ endpoint = \"{endpoint}\", region = \"us-east-1\", allow_http = \"true\" }}");
    for bucket in BUCKETS {
        let section = format!("buckets.{bucket}");
        scene.setup.set(&section, "options", &options);
    }
    scene.setup.append("[buckets.another]\nurl = \"memory:\"\n");
    // A token that the client puts into a header as the file has it.
    let token = scene.setup.dir().join("token");
    fs::write(&token, "canary\n\n").unwrap();
    scene.origin.put(
        "/credentials",
        r#"{"AccessKeyId": "any", "SecretAccessKey": "any", "Token": "any", "Expiration": "2100-01-01T00:00:00Z"}"#,
        "application/json",
    );
    let (credentials, file) = (scene.origin.url("/credentials"), token.to_str().unwrap());
    let environment = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", credentials.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file),
    ];
    let mut check = command();
    check
        .args(["check", "--connect", "--config"])
        .arg(scene.setup.write());
    let checked = check.envs(environment).output().unwrap();
    let report = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(3), "{report}");
    assert_eq!(report.matches("FAIL  bucket").count(), 3, "{report}");
    assert!(report.contains("ok    bucket        another"), "{report}");
    assert!(!report.contains("canary"), "{report}");
    let worker = scene.worker_with(&[], &environment).await;
    scene.publish().await;
    // More often than there are delays: an event that was charged would be dead.
    let rounds = 3 * scene.load.calls.len();
    wait_times(&worker, "outcome=\"retried\"", rounds).await;
    assert_eq!(times(&worker, "charged=true"), 0);
    fs::write(&token, "canary").unwrap();
    scene.wait_complete_but(0).await;
    assert_told_once(&worker);
    assert_eq!(times(&worker, "ERROR"), 0, "{}", worker.log());
    assert_eq!(times(&worker, "canary"), 0, "{}", worker.log());
    let rounds = times(&worker, "outcome=\"retried\"");
    let explained = Explained {
        downloads: 3 * rounds,
        ..Explained::default()
    };
    scene.audit([worker], explained).await;
}
