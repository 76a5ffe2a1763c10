//! `deploy/prometheus`, and a Prometheus that runs with it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::TcpListener,
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use serde_json::{Value, json};
use url::Url;

use super::tools::{deploy, document, ran, text};
use crate::support::{http_client, wait::eventually};

/// The names of the alerts in the rules.
pub(super) fn alerts() -> BTreeSet<String> {
    let rules = document(&text("prometheus/callvault.rules.yml"));
    let rules = rules["groups"][0]["rules"].as_array().unwrap().clone();
    let names = rules.iter().filter_map(|rule| rule["alert"].as_str());
    names.map(str::to_owned).collect()
}

#[test]
fn prometheus_reads_its_configuration_and_its_rules() {
    let config = deploy("prometheus/prometheus.yml");
    let said = ran(Command::new("promtool")
        .args(["check", "config"])
        .arg(config));
    assert!(said.contains("1 rule files found"), "{said}");
    assert!(!said.contains("FAILED"), "{said}");
}

#[test]
fn each_alert_fires_for_its_cause_and_for_nothing_else() {
    let tests = deploy("prometheus/callvault.test.yml");
    let said = ran(Command::new("promtool").args(["test", "rules"]).arg(&tests));
    assert!(said.contains("SUCCESS"), "{said}");
    // And each is in a test.
    let tests = fs::read_to_string(tests).unwrap();
    for alert in alerts() {
        let named = format!("alertname=\"{alert}\", alertstate=\"firing\"");
        assert!(tests.contains(&named), "{alert} is not seen to fire");
    }
}

#[test]
fn each_alert_says_how_bad_it_is_what_it_means_and_what_to_do() {
    let rules = document(&text("prometheus/callvault.rules.yml"));
    let mut seen = 0;
    for rule in rules["groups"][0]["rules"].as_array().unwrap() {
        if rule["alert"].is_null() {
            continue;
        }
        seen += 1;
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&severity), "{rule}");
        for note in ["summary", "description", "runbook"] {
            let words = rule["annotations"][note].as_str().unwrap_or_default();
            assert!(words.len() > 20, "{note} of {rule}");
            assert!(!words.contains('\n'), "one line: {note} of {rule}");
        }
        assert!(rule["for"].is_string(), "a scrape may fail: {rule}");
    }
    assert_eq!(seen, alerts().len());
}

/// A Prometheus server, on a port of its own, with data that goes with it.
pub(super) struct Prometheus {
    child: Child,
    url: Url,
    client: reqwest::Client,
}

impl Prometheus {
    /// With this project's configuration, but for where its targets are (by job) and for a minute, which is a
    /// second long: so a test sees in a minute what takes an hour.
    pub(super) async fn start(dir: &Path, targets: &[(&str, String)]) -> Self {
        let mut config = document(&text("prometheus/prometheus.yml"));
        config["global"] = json!({"scrape_interval": "500ms", "evaluation_interval": "500ms"});
        let jobs = config["scrape_configs"].as_array_mut().unwrap();
        assert_eq!(jobs.len(), targets.len());
        for job in jobs {
            let name = job["job_name"].as_str().unwrap().to_owned();
            let (_, target) = targets.iter().find(|(job, _)| *job == name).unwrap();
            job.as_object_mut().unwrap().remove("dns_sd_configs");
            job["static_configs"] = json!([{"targets": [target]}]);
        }
        let rules = in_seconds(&text("prometheus/callvault.rules.yml"));
        fs::write(dir.join("callvault.rules.yml"), rules).unwrap();
        // JSON is YAML.
        fs::write(dir.join("prometheus.yml"), config.to_string()).unwrap();
        let address = free_address();
        let log = File::create(dir.join("prometheus.log")).unwrap();
        // It dies with the test, however that ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "prometheus"])
            .args(["--log.level=warn", "--config.file"])
            .arg(dir.join("prometheus.yml"))
            .arg("--storage.tsdb.path")
            .arg(dir.join("prometheus"))
            .arg(format!("--web.listen-address={address}"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let prometheus = Self {
            child,
            url: format!("http://{address}").parse().unwrap(),
            client: http_client(),
        };
        let what = format!("Prometheus, {}", dir.join("prometheus.log").display());
        eventually(Duration::from_secs(30), &what, async || {
            let ready = prometheus.url.join("-/ready").unwrap();
            let answer = prometheus.client.get(ready).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        prometheus
    }

    /// What it answers to a query at this moment: the series with their values. A query that it does not
    /// understand fails the test.
    pub(super) async fn query(&self, query: &str) -> Vec<Value> {
        let mut url = self.url.join("api/v1/query").unwrap();
        url.query_pairs_mut().append_pair("query", query);
        let answer = self.client.get(url).send().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }

    /// The alerts that fire.
    pub(super) async fn firing(&self) -> BTreeSet<String> {
        let alerts = self.query(r#"ALERTS{alertstate="firing"}"#).await;
        let names = alerts.iter().map(|alert| &alert["metric"]["alertname"]);
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until exactly these alerts have fired at one time; others may have on the way there only if they are
    /// among them.
    pub(super) async fn wait_firing(&self, deadline: Duration, expected: &[&str]) {
        let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
        let mut seen = BTreeSet::new();
        let what = format!("{expected:?} to fire");
        eventually(deadline, &what, async || {
            let firing = self.firing().await;
            assert!(
                firing.is_subset(&expected) || expected.is_empty(),
                "{firing:?} fire, of which only {expected:?} have a cause"
            );
            if firing != seen {
                eprintln!("firing: {firing:?}");
                seen.clone_from(&firing);
            }
            (firing == expected).then_some(())
        })
        .await;
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Rules whose minutes are seconds.
fn in_seconds(rules: &str) -> String {
    let mut scaled = String::new();
    let mut rest = rules;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = rest[at..]
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len() - at);
        let after = &rest[at + digits..];
        scaled.push_str(&rest[..at + digits]);
        let minutes = after.strip_prefix('m').filter(|after| {
            let next = after.chars().next();
            !next.is_some_and(char::is_alphanumeric)
        });
        rest = after;
        if let Some(after) = minutes {
            scaled.push('s');
            rest = after;
        }
    }
    scaled.push_str(rest);
    assert!(scaled.contains("5 * 60"), "five minutes, in seconds");
    scaled.replace("5 * 60", "5 * 1")
}

/// An address that nobody listens on, below the ports that the kernel hands out by itself.
pub(super) fn free_address() -> String {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let ports = std::iter::repeat_with(|| fastrand::u16(12_000..32_000));
    let port = ports.take(1000).find(free).unwrap();
    format!("127.0.0.1:{port}")
}
