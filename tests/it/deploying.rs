//! What lies in `deploy/`, loaded by the tools that it is for.

mod booted;
mod compose;
mod dashboard;
mod image;
mod kubernetes;
mod outage;
mod prometheus;
mod systemd;
mod tools;

use std::{fs, path::Path, time::Duration};

use crate::support::{
    amqp::Amqp,
    call,
    config::Setup,
    origin::Origin,
    servers::{Kind, Server},
    worker::Worker,
};

#[tokio::test]
async fn the_brokers_definitions_are_what_callvault_declares_and_serve_where_it_may_not() {
    let broker = Server::start(Kind::RabbitMq).await;
    let definitions = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/deploy/rabbitmq/definitions.json"
    );
    // It listens a moment before it takes orders.
    broker.rabbitmqctl(&["await_startup"]);
    broker.rabbitmqctl(&["import_definitions", definitions]);

    let origin = Origin::start().await;
    let mut setup = Setup::new(broker.url());
    let folders = ["documents", "recordings", "quarantine"]
        .map(|bucket| format!("[buckets.{bucket}]\nurl = \"file:archive/{bucket}\"\n"));
    setup.append(&folders.concat());
    setup.set("queue", "name", "\"callvault\"");
    setup.set("queue", "exchange", "\"calls\"");
    setup.set(
        "queue",
        "retry_delays",
        r#"["10s", "1m", "10m", "1h", "6h"]"#,
    );
    let amqp = Amqp::connect(broker.url()).await;
    broker.rabbitmqctl(&["add_user", "archiver", "a-password"]);
    let url = broker.url().replace("guest:guest", "archiver:a-password");
    setup.set("queue", "url", &format!("{url:?}"));
    // First a worker that finds everything there, then one that declares it: a difference in a single
    // argument would be refused by the broker. Each with no right more than `check --connect` asks for.
    let ours = r"^(calls|callvault|callvault\..*)$";
    // RabbitMQ 4.3 shows a queue or exchange to nobody who has no right to it: all are to be read.
    let found = ["^$", r"^amq\.default$", ours];
    let declared = [ours, r"^(callvault|callvault\..*|amq\.default)$", ours];
    for (request, declare, rights) in [("found", "false", found), ("declared", "true", declared)] {
        let [configure, write, read] = rights;
        broker.rabbitmqctl(&["set_permissions", "archiver", configure, write, read]);
        setup.set("queue", "declare", declare);
        let event = String::from_utf8(call::served(&origin).to_vec()).unwrap();
        let event = event.replace("00552b38-d0e7-460f-9877-a7c8c8b2ff8c", request);
        let mut worker = Worker::start(&setup.write());
        worker.wait_log("consuming").await;
        amqp.publish("calls", "call.analyzed", None, event.as_bytes())
            .await;
        worker.wait_log("outcome=\"archived\"").await;
        let folder = setup
            .folder("documents")
            .join("2023/08/24/5e09c7cc-27e8-4d91-89ee-4ea5bafaaa15");
        assert!(fs::exists(folder.join(request).join("manifest.json")).unwrap());
        worker.term();
        assert!(worker.wait_exit(Duration::from_secs(20)).await.success());
    }
}

/// Each file, and the module here (or beside) that has a foreign tool load it.
const LOADED: [(&str, &str); 34] = [
    ("Dockerfile", "image, confined"),
    ("Dockerfile.dockerignore", "confined"),
    ("compose.yaml", "compose"),
    ("compose/callvault.toml", "compose"),
    ("compose/provider.py", "compose"),
    ("duckdb/minutes.sql", "sealing"),
    ("grafana/callvault.json", "dashboard"),
    (
        "grafana/provisioning/dashboards/callvault.yaml",
        "dashboard",
    ),
    (
        "grafana/provisioning/datasources/prometheus.yaml",
        "dashboard",
    ),
    ("kubernetes/autoscaling/kustomization.yaml", "kubernetes"),
    ("kubernetes/autoscaling/scaled-object.yaml", "kubernetes"),
    ("kubernetes/base/cron-job.patch.yaml", "kubernetes"),
    ("kubernetes/base/cron-jobs.yaml", "kubernetes"),
    ("kubernetes/base/deployment.yaml", "kubernetes"),
    ("kubernetes/base/disruption-budget.yaml", "kubernetes"),
    ("kubernetes/base/kustomization.yaml", "kubernetes"),
    ("kubernetes/base/namespace.yaml", "kubernetes"),
    ("kubernetes/base/network-policy.yaml", "kubernetes"),
    ("kubernetes/base/service-account.yaml", "kubernetes"),
    ("kubernetes/example/callvault.toml", "kubernetes"),
    ("kubernetes/example/kustomization.yaml", "kubernetes"),
    ("kubernetes/example/secret.example.yaml", "kubernetes"),
    ("kubernetes/monitoring/kustomization.yaml", "kubernetes"),
    ("kubernetes/monitoring/pod-monitor.yaml", "kubernetes"),
    ("kubernetes/monitoring/prometheus-rule.yaml", "kubernetes"),
    ("prometheus/callvault.rules.yml", "prometheus, outage"),
    ("prometheus/callvault.test.yml", "prometheus"),
    ("prometheus/prometheus.yml", "prometheus, outage"),
    ("rabbitmq/definitions.json", "deploying"),
    ("s3/lifecycle.json", "sweeping"),
    ("systemd/callvault.service", "systemd"),
    ("systemd/callvault@.service", "systemd"),
    ("systemd/callvault@.timer", "systemd"),
    ("systemd/callvault@verify.service.d/state.conf", "systemd"),
];

#[test]
fn no_file_is_there_that_nothing_loads() {
    let mut found = Vec::new();
    files(&tools::deploy(""), &mut found);
    found.sort();
    let mut loaded: Vec<&str> = LOADED.iter().map(|(file, _)| *file).collect();
    loaded.sort_unstable();
    assert_eq!(found, loaded, "have a tool load it, and name it above");
}

fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            let name = path.strip_prefix(tools::deploy("")).unwrap();
            found.push(name.to_str().unwrap().to_owned());
        }
    }
}
