//! `deploy/compose.yaml`, read by Docker Compose, and what it would run, run here: the same programs, arguments,
//! environment and files, with each service's name put for an address of this machine's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use super::{
    prometheus::free_address,
    tools::{deploy, program, text},
};
use crate::support::{
    http_client,
    servers::{Conf, Kind, Server},
    wait::eventually,
    worker::{Worker, command},
};

const DEADLINE: Duration = Duration::from_mins(1);
/// Stands for what the user makes up.
const PASSWORD: &str = "made-up-for-a-test";

/// The file as Compose understands it, with everything filled in.
fn compose() -> Value {
    let output = program("docker-compose")
        .arg("--file")
        .arg(deploy("compose.yaml"))
        .args(["config", "--format", "json"])
        .env("PASSWORD", PASSWORD)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn compose_reads_its_file_and_finds_what_it_names() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services["worker"]["deploy"]["replicas"], 2);
    for (name, service) in services {
        let image = service["image"].as_str().unwrap();
        if name == "worker" {
            let file = service["build"]["dockerfile"].as_str().unwrap();
            let context = Path::new(service["build"]["context"].as_str().unwrap());
            assert_eq!(context.join(file), deploy("Dockerfile"));
        } else {
            let (_, version) = image.rsplit_once(':').unwrap();
            let parts = version.split('.').count();
            assert!(parts >= 2, "{image} is another one next month");
            assert!(service["healthcheck"]["test"].is_array(), "{name}'s health");
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            assert_eq!(
                port["host_ip"], "127.0.0.1",
                "{name} is this machine's alone"
            );
        }
        assert!(service["network_mode"].is_null() && service["privileged"].is_null());
        for mount in service["volumes"].as_array().into_iter().flatten() {
            let source = mount["source"].as_str().unwrap();
            assert!(fs::exists(source).unwrap(), "{source}");
            assert_eq!(mount["read_only"], true, "{source}");
        }
    }
    let worker = &services["worker"];
    assert_eq!(worker["read_only"], true);
    assert_eq!(worker["cap_drop"][0], "ALL");
    let patience = worker["stop_grace_period"].as_str().unwrap();
    let patience = humantime::parse_duration(patience).unwrap();
    assert!(
        patience > Duration::from_secs(40),
        "longer than --grace: {patience:?}"
    );

    // Prometheus looks for workers and broker by the names that they have here.
    let scraped = text("prometheus/prometheus.yml");
    for name in ["worker", "rabbitmq"] {
        assert!(services.contains_key(name) && scraped.contains(name));
    }
    // No password is in the file: where none is made up, nothing starts.
    let refused = program("docker-compose")
        .arg("--file")
        .arg(deploy("compose.yaml"))
        .args(["config", "--quiet"])
        .env_remove("PASSWORD")
        .output()
        .unwrap();
    assert!(!refused.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_flow_through_what_compose_would_start() {
    let compose = compose();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let management = free_address();
    let conf = Conf {
        lines: vec![
            "management.tcp.ip = 127.0.0.1".into(),
            format!("management.tcp.port = {}", port(&management)),
        ],
        plugins: vec!["rabbitmq_management".into()],
        ..Conf::default()
    };
    let broker = Server::start_with(Kind::RabbitMq, &conf).await;
    broker.rabbitmqctl(&["await_startup"]);
    // The image makes this user of its environment, as an administrator.
    let made = environment(&compose, "rabbitmq");
    let value = |name: &str| -> &str {
        let found = made.iter().find(|(variable, _)| variable == name);
        &found.unwrap().1
    };
    let (user, password) = (
        value("RABBITMQ_DEFAULT_USER"),
        value("RABBITMQ_DEFAULT_PASS"),
    );
    broker.rabbitmqctl(&["add_user", user, password]);
    broker.rabbitmqctl(&["set_user_tags", user, "administrator"]);
    broker.rabbitmqctl(&["set_permissions", user, ".*", ".*", ".*"]);

    let names = Names {
        broker: broker
            .url()
            .rsplit('@')
            .next()
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned(),
        management,
        store: free_address(),
        provider: free_address(),
    };
    let _store = store(&compose, &names, dir.path()).await;
    let _provider = start_provider(&compose, &names, dir.path());
    let configuration = configuration(&compose, &names, dir.path());
    let workers: Vec<Worker> = (0..2)
        .map(|_| {
            let mut run = command();
            run.args(["run", "--grace", "30s"])
                .envs(names.local(environment(&compose, "worker")))
                .env("CALLVAULT_CONFIG", &configuration)
                .env("CALLVAULT__HTTP__LISTEN", "127.0.0.1:0");
            Worker::spawn(run, dir.path())
        })
        .collect();
    for worker in &workers {
        worker.wait_log("consuming").await;
    }
    eventually(DEADLINE, "calls in both workers", async || {
        let archived = |worker: &Worker| worker.log().matches("outcome=\"archived\"").count();
        workers
            .iter()
            .all(|worker| archived(worker) >= 5)
            .then_some(())
    })
    .await;
    let page = format!("http://{}/metrics", workers[0].address());
    let metrics = http_client().get(page).send().await.unwrap();
    let metrics = String::from_utf8(metrics.bytes().await.unwrap().to_vec()).unwrap();
    assert!(
        metrics.contains("callvault_broker_connected 1"),
        "{metrics}"
    );
}

/// Where the services that have a name there are here.
struct Names {
    broker: String,
    management: String,
    store: String,
    provider: String,
}

impl Names {
    fn here(&self, text: &str) -> String {
        text.replace("rabbitmq:5672", &self.broker)
            .replace("rabbitmq:15672", &self.management)
            .replace("store:8333", &self.store)
            .replace("provider:8080", &self.provider)
            .replace("[\"provider\"]", "[\"127.0.0.1\"]")
    }

    fn local(&self, environment: Vec<(String, String)>) -> Vec<(String, String)> {
        let environment = environment.into_iter();
        environment
            .map(|(name, value)| (name, self.here(&value)))
            .collect()
    }
}

fn environment(compose: &Value, service: &str) -> Vec<(String, String)> {
    let environment = compose["services"][service]["environment"].as_object();
    let environment = environment.unwrap().iter();
    environment
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

/// The file on this machine that a service has at a place.
fn mounted(compose: &Value, service: &str, target: &str) -> PathBuf {
    let mounts = compose["services"][service]["volumes"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["target"] == target);
    PathBuf::from(mount.unwrap()["source"].as_str().unwrap())
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap()
}

/// The workers' configuration, where the image looks for it.
fn configuration(compose: &Value, names: &Names, dir: &Path) -> PathBuf {
    let place = "/etc/callvault/callvault.toml";
    assert!(text("Dockerfile").contains(&format!("ENV CALLVAULT_CONFIG={place}")));
    let written = fs::read_to_string(mounted(compose, "worker", place)).unwrap();
    let file = dir.join("callvault.toml");
    fs::write(&file, names.here(&written)).unwrap();
    file
}

/// SeaweedFS with the service's own arguments and credentials; what it would take of this machine's ports is moved.
async fn store(compose: &Value, names: &Names, dir: &Path) -> Worker {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let data = dir.join("store");
    fs::create_dir(&data).unwrap();
    let arguments = compose["services"]["store"]["command"].as_array().unwrap();
    let mut weed = Command::new("setpriv");
    weed.args(["--pdeathsig", "KILL", "--"])
        .arg(target.join("venv/bin/weed"))
        .current_dir(dir);
    for argument in arguments {
        let argument = argument.as_str().unwrap();
        weed.arg(match argument.split_once('=') {
            Some(("-dir", _)) => format!("-dir={}", data.display()),
            Some(("-ip.bind", _)) => "-ip.bind=127.0.0.1".into(),
            Some(("-s3.port", _)) => format!("-s3.port={}", port(&names.store)),
            _ => argument.to_owned(),
        });
    }
    for server in ["master", "volume", "filer", "s3"] {
        if server != "s3" {
            weed.arg(format!("-{server}.port={}", port(&free_address())));
        }
        weed.arg(format!("-{server}.port.grpc={}", port(&free_address())));
    }
    weed.args([
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-volume.minFreeSpace=20MiB",
    ]);
    weed.envs(environment(compose, "store"));
    let weed = Worker::spawn(weed, dir);
    // Its own health check, but for the program that asks.
    let check = compose["services"]["store"]["healthcheck"]["test"]
        .as_array()
        .unwrap();
    let url = check.last().unwrap().as_str().unwrap();
    let url = url.replace("127.0.0.1:8333", &names.store);
    eventually(DEADLINE, "the store's health", async || {
        let answer = http_client().get(&url).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    weed
}

fn start_provider(compose: &Value, names: &Names, dir: &Path) -> Worker {
    let mut python = Command::new("setpriv");
    python
        .args(["--pdeathsig", "KILL", "--", "python3"])
        .arg(mounted(compose, "provider", "/provider.py"))
        .envs(names.local(environment(compose, "provider")))
        .env("PORT", port(&names.provider))
        .env("CALLS_PER_SECOND", "20");
    Worker::spawn(python, dir)
}
