//! The alerts on a real outage: a Prometheus with this project's rules watches a worker, its broker and its store,
//! of which one after the other fails.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{task::JoinHandle, time::sleep};
use uuid::Uuid;

use super::{dashboard, prometheus::Prometheus};
use crate::support::{
    amqp::Amqp,
    call,
    config::{BUCKETS, Setup},
    origin::Origin,
    s3::S3,
    servers::{Conf, Kind, Server},
    wait::eventually,
    worker::Worker,
};

/// For an alert to come, and to go: twenty of the rules' minutes, which are seconds here, and a busy machine.
const DEADLINE: Duration = Duration::from_secs(90);
/// As long as the rules look back, in the same seconds.
const HEALTHY: Duration = Duration::from_secs(35);
/// Between two events: in health, and when more is to come than goes.
const CALM: u64 = 100;
const RUSH: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_are_silent_in_health_fire_on_a_real_outage_and_go_when_it_is_over() {
    let conf = Conf {
        lines: vec![
            "prometheus.tcp.ip = 127.0.0.1".into(),
            "prometheus.tcp.port = {extra_port}".into(),
        ],
        plugins: vec!["rabbitmq_prometheus".into()],
        ..Conf::default()
    };
    let broker = Server::start_with(Kind::RabbitMq, &conf).await;
    let mut s3 = Server::start(Kind::SeaweedFs).await;
    let setup = setup(&broker, &s3);
    let config = setup.write();
    let mut worker = Worker::start(&config);
    worker.wait_log("consuming").await;
    // Again on the same port after its death, as a target that is known.
    let address = worker.address();
    let again = setup.toml().replace("127.0.0.1:0", &address);
    let amqp = Amqp::connect(broker.url()).await;
    let calls = Calls::begin(broker.url()).await;
    let targets = [
        ("callvault", address),
        ("rabbitmq", format!("127.0.0.1:{}", broker.extra_port())),
    ];
    let prometheus = Prometheus::start(setup.dir(), &targets).await;

    // In health, from where it knows its targets, which takes it longer than these minutes.
    eventually(DEADLINE, "both targets", async || {
        let (known, firing) = (prometheus.query("up == 1").await, prometheus.firing().await);
        (known.len() == targets.len() && firing.is_empty()).then_some(())
    })
    .await;
    let begun = Instant::now();
    eventually(
        DEADLINE,
        "as much health as the rules look back",
        async || {
            assert_eq!(prometheus.firing().await, BTreeSet::new(), "in health");
            (begun.elapsed() > HEALTHY).then_some(())
        },
    )
    .await;
    let archived = "sum(increase(callvault_events_total{outcome=\"archived\"}[20s])) > 20";
    assert_eq!(prometheus.query(archived).await.len(), 1, "a load");
    dashboard::every_panel_shows_something(&prometheus).await;

    // The store is gone, and more comes.
    s3.kill9().await;
    calls.every(RUSH);
    let outage = [
        "CallvaultNotReady",
        "CallvaultNothingArchived",
        "CallvaultQueueGrowing",
        "CallvaultStoreWaiting",
    ];
    prometheus.wait_firing(DEADLINE, &outage).await;
    let bucket = prometheus
        .query(r#"ALERTS{alertname="CallvaultStoreWaiting", alertstate="firing", severity="critical"}"#)
        .await;
    let buckets: Vec<&Value> = bucket
        .iter()
        .map(|alert| &alert["metric"]["bucket"])
        .collect();
    assert!(
        !buckets.is_empty()
            && buckets
                .iter()
                .all(|name| BUCKETS.iter().any(|of| name == of)),
        "{buckets:?}"
    );
    calls.every(CALM);
    s3.restart().await;
    silent(&prometheus).await;

    // One event that nobody can archive; a person drops it.
    amqp.publish("calls", "call.analyzed", None, b"not an event")
        .await;
    prometheus
        .wait_firing(DEADLINE, &["CallvaultDeadLetters"])
        .await;
    amqp.purge("callvault.dead").await;
    silent(&prometheus).await;

    // The worker is gone.
    worker.kill9();
    let gone = [
        "CallvaultNoWorker",
        "CallvaultNobodyConsumes",
        "CallvaultWorkerDown",
    ];
    eventually(DEADLINE, "the worker's absence to be noticed", async || {
        let firing = prometheus.firing().await;
        gone.iter()
            .all(|alert| firing.contains(*alert))
            .then_some(())
    })
    .await;
    std::fs::write(&config, again).unwrap();
    let worker = Worker::start(&config);
    worker.wait_log("consuming").await;
    silent(&prometheus).await;
}

/// Waits until nothing fires any more.
async fn silent(prometheus: &Prometheus) {
    prometheus.wait_firing(DEADLINE, &[]).await;
}

/// The names that the rules have, on servers of the test's own.
fn setup(broker: &Server, s3: &Server) -> Setup {
    let mut setup = Setup::new(broker.url());
    setup.set("queue", "name", "\"callvault\"");
    setup.set("queue", "exchange", "\"calls\"");
    // A busy machine must not look like a mute origin.
    setup.set("fetch", "read_timeout", "\"5s\"");
    for bucket in BUCKETS {
        let (url, endpoint) = (format!("s3://{}/{bucket}", S3::BUCKET), s3.url());
        setup.append(&format!(
            "[buckets.{bucket}]\nurl = \"{url}\"\noptions = {{ endpoint = \"{endpoint}\", region = \"us-east-1\", \
             allow_http = \"true\", access_key_id = \"any\", secret_access_key = \"any\" }}\n"
        ));
    }
    setup
}

/// Calls that come one after the other, for as long as this lives.
struct Calls {
    pause: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Calls {
    async fn begin(broker: &str) -> Self {
        let (amqp, origin) = (Amqp::connect(broker).await, Origin::start().await);
        let event = String::from_utf8(call::served(&origin).to_vec()).unwrap();
        let pause = Arc::new(AtomicU64::new(CALM));
        let told = Arc::clone(&pause);
        let task = tokio::spawn(async move {
            // Lives as long as the calls do.
            let _origin = origin;
            loop {
                let event = event
                    .replace(
                        "00552b38-d0e7-460f-9877-a7c8c8b2ff8c",
                        &Uuid::new_v4().to_string(),
                    )
                    .replace(
                        "5e09c7cc-27e8-4d91-89ee-4ea5bafaaa15",
                        &Uuid::new_v4().to_string(),
                    );
                amqp.publish("calls", "call.analyzed", None, event.as_bytes())
                    .await;
                sleep(Duration::from_millis(told.load(Ordering::Relaxed))).await;
            }
        });
        Self { pause, task }
    }

    fn every(&self, milliseconds: u64) {
        self.pause.store(milliseconds, Ordering::Relaxed);
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.task.abort();
    }
}
