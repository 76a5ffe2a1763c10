//! `callvault check`: what it finds, by real causes; how it is told, and mended.

use std::{
    path::Path,
    process::{Command, Output},
};

use lapin::{
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;

use crate::{
    connecting::certificates,
    support::{
        amqp::Amqp,
        config::{BUCKETS, Setup},
        lossy::Lossy,
        place::Place,
        servers::{self, Conf, Kind, Server, address},
        tls::Tls,
        worker::{Worker, command},
    },
};

mod brokers;
mod machines;
mod stores;

/// `callvault check --connect --json` as it ended, and its lines.
struct Report {
    code: Option<i32>,
    lines: Vec<Value>,
}

impl Report {
    fn of(output: &Output) -> Self {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let told = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(!told.contains("canary"), "{told}");
        let lines = text.lines();
        Self {
            code: output.status.code(),
            lines: lines
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
        }
    }

    /// The lines that are not ok, but for what the tests' configuration is weak in by itself.
    fn bad(&self) -> Vec<&Value> {
        let lines = self.lines.iter();
        let bad = lines.filter(|line| line["ok"] == false && line["what"] != "configuration");
        bad.collect()
    }

    /// The only line that is not ok.
    fn only(&self, state: &str, what: &str, code: i32) -> &Value {
        let bad = self.bad();
        assert_eq!(bad.len(), 1, "{bad:#?}");
        assert_eq!(
            (&bad[0]["state"], &bad[0]["what"], self.code),
            (&state.into(), &what.into(), Some(code)),
            "{:#?}",
            self.lines
        );
        bad[0]
    }

    /// The detail of the first ok line about something.
    fn ok(&self, what: &str) -> &str {
        let mut lines = self.lines.iter();
        let found = lines.find(|line| line["what"] == what && line["state"] == "ok");
        found.unwrap_or_else(|| panic!("no ok {what} in {:#?}", self.lines))["detail"]
            .as_str()
            .unwrap()
    }
}

fn contains(line: &Value, detail: &str, mend: &str) {
    for (key, text) in [("detail", detail), ("mend", mend)] {
        let told = line[key].as_str().unwrap_or_default();
        assert!(told.contains(text), "no {text:?} in {line:#}");
    }
}

async fn output(command: Command) -> Output {
    let mut command = command;
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    run.await.unwrap()
}

fn connecting(config: &Path) -> Command {
    let mut check = command();
    check
        .args(["check", "--connect", "--json", "--config"])
        .arg(config);
    check
}

async fn check(setup: &Setup) -> Report {
    Report::of(&output(connecting(&setup.write())).await)
}

/// Folders, with the queue at any broker.
fn folders(broker: &str) -> Setup {
    let mut setup = Setup::new(broker);
    for bucket in BUCKETS {
        setup.append(&format!(
            "[buckets.{bucket}]\nurl = \"file:archive/{bucket}\"\n"
        ));
    }
    setup
}

#[tokio::test]
async fn what_is_well_is_told_in_words_and_in_lines_and_nothing_is_left_behind() {
    let setup = Setup::s3().await;
    let report = check(&setup).await;
    assert_eq!(
        (report.code, report.bad().len()),
        (Some(0), 0),
        "{:#?}",
        report.lines
    );
    assert!(
        report.ok("broker").starts_with("RabbitMQ "),
        "{:#?}",
        report.lines
    );
    assert!(
        report
            .ok("topology")
            .contains(&format!("`run` will declare exchange {}", setup.exchange()))
    );
    for line in &report.lines {
        assert!(
            line["detail"].is_string() && line["state"].is_string(),
            "{line}"
        );
    }
    let mut words = command();
    words
        .args(["check", "--connect", "--config"])
        .arg(setup.write());
    let words = output(words).await;
    let words = String::from_utf8(words.stdout).unwrap();
    assert_eq!(words.lines().count(), report.lines.len(), "{words}");
    assert!(
        words.contains(
            "\nWEAK  configuration fetch.allow_http is true, which is for development only"
        ),
        "{words}"
    );

    let amqp = Amqp::connect(servers::rabbit().await).await;
    assert_eq!(amqp.count(setup.queue()).await, None);
    assert_eq!(amqp.count(&format!("{}.dead", setup.queue())).await, None);
    let left = servers::s3().await;
    assert!(
        left.list(crate::support::s3::S3::BUCKET, &setup.name)
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn what_is_weak_in_the_configuration_changes_no_exit_code_and_what_cannot_work_does() {
    let mut setup = Setup::folders().await;
    let plain = async |setup: &Setup| {
        let mut check = command();
        check
            .args(["check", "--json", "--config"])
            .arg(setup.write());
        Report::of(&output(check).await)
    };
    let report = plain(&setup).await;
    assert_eq!(report.code, Some(0));
    assert!(
        report.lines.iter().any(|line| line["state"] == "weak"),
        "{:#?}",
        report.lines
    );
    setup.set("fetch", "allowed_hosts", "[]");
    let report = plain(&setup).await;
    assert_eq!(report.code, Some(1));
    let fails = report.lines.iter().filter(|line| line["state"] == "fail");
    let fails: Vec<_> = fails.collect();
    assert_eq!(fails.len(), 1, "{fails:?}");
    contains(
        fails[0],
        "fetch.allowed_hosts is empty",
        "name the provider's hosts",
    );
}

#[tokio::test]
async fn a_worker_says_once_as_it_starts_what_could_be_better() {
    let setup = Setup::folders().await;
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let log = worker.log();
    for text in [
        "fetch.allow_http is true",
        "allow_private_addresses is true",
        "allowed_hosts has",
    ] {
        assert_eq!(log.matches(text).count(), 1, "{text}: {log}");
    }
    assert!(log.contains("mend="), "{log}");
}

#[tokio::test]
async fn the_guard_is_found_in_force_by_what_it_refuses() {
    let mut setup = Setup::folders().await;
    let report = check(&setup).await;
    assert!(
        report
            .ok("origin guard")
            .contains("lets downloads lead to 127.0.0.1, 10.0.0.1")
    );
    setup.set("fetch", "allow_private_addresses", "false");
    let report = check(&setup).await;
    assert!(
        report
            .ok("origin guard")
            .contains("and so is a download from localhost")
    );
    setup.set("fetch", "allowed_hosts", r#"["files.example"]"#);
    let report = check(&setup).await;
    assert!(
        report
            .ok("origin guard")
            .contains("and so is a download from localhost")
    );
}
