//! `deploy/kubernetes`, built by kubectl and held against the schemas that the cluster and its operators publish.

use std::{fs, net::IpAddr, path::Path, sync::OnceLock};

use callvault::{config::Config, fetch::guard::Guard};
use humantime::parse_duration;
use serde_json::Value;
use tempfile::TempDir;

use super::tools::{deploy, document, kubectl, program, python, ran, said, text, yaml};
use crate::support::worker::command;

const SECRETS: &str = "kubernetes/example/secret.example.yaml";
/// The oldest that the manifests are for, and a new one.
const VERSIONS: [&str; 2] = ["1.29", "1.37"];

/// What `kubectl apply -k deploy/kubernetes/example` would send.
fn built() -> String {
    ran(kubectl().arg("kustomize").arg(deploy("kubernetes/example")))
}

/// All of that, read once.
fn objects() -> &'static [Value] {
    static OBJECTS: OnceLock<Vec<Value>> = OnceLock::new();
    OBJECTS.get_or_init(|| yaml(&built()))
}

/// The built objects of a kind.
fn all(kind: &str) -> Vec<Value> {
    let objects = objects().iter().cloned();
    let all: Vec<Value> = objects.filter(|object| object["kind"] == kind).collect();
    assert!(!all.is_empty(), "no {kind}");
    all
}

fn only(kind: &str) -> Value {
    let [object] = <[Value; 1]>::try_from(all(kind)).unwrap();
    object
}

/// The pods that there will be: of the deployment and of the jobs.
fn pods() -> Vec<Value> {
    let deployment = only("Deployment")["spec"]["template"].clone();
    let jobs = all("CronJob");
    let jobs = jobs
        .iter()
        .map(|job| job["spec"]["jobTemplate"]["spec"]["template"].clone());
    jobs.chain([deployment]).collect()
}

#[test]
fn the_manifests_fit_the_published_schemas() {
    let dir = TempDir::new().unwrap();
    let objects = objects();
    let (ours, theirs): (Vec<&Value>, Vec<&Value>) = objects.iter().partition(|object| {
        let version = object["apiVersion"].as_str().unwrap();
        !version.starts_with("keda.sh/") && !version.starts_with("monitoring.coreos.com/")
    });

    for version in VERSIONS {
        let mut validate = program("kubernetes-validate");
        validate.args(["--strict", "--kubernetes-version", version]);
        for (n, object) in ours.iter().enumerate() {
            // JSON is YAML.
            let file = dir.path().join(format!("{n}.yaml"));
            fs::write(&file, object.to_string()).unwrap();
            validate.arg(file);
        }
        let said = ran(validate.arg(deploy(SECRETS)));
        let passed = said.matches(" passed for resource ").count();
        assert_eq!(passed, ours.len() + 2, "two secrets; {said}");
        assert!(!said.contains("WARN"), "{said}");
    }

    let theirs_as_yaml: Vec<String> = theirs
        .iter()
        .map(|object| format!("---\n{object}\n"))
        .collect();
    let read = python(include_str!("custom.py"), &theirs_as_yaml.concat());
    let said = said(&read);
    assert!(read.status.success(), "{said}");
    assert_eq!(said.matches("read ").count(), theirs.len(), "{said}");
    assert_eq!(theirs.len(), 4, "KEDA's two, the Prometheus operator's two");
}

#[test]
fn the_operators_alert_rules_are_prometheus_own() {
    let rules = document(&text("prometheus/callvault.rules.yml"));
    assert_eq!(only("PrometheusRule")["spec"], rules);
}

#[test]
fn callvault_takes_the_configuration_the_secrets_and_the_arguments_of_each_pod() {
    let dir = TempDir::new().unwrap();
    let configuration = only("ConfigMap");
    let file = dir.path().join("callvault.toml");
    fs::write(
        &file,
        configuration["data"]["callvault.toml"].as_str().unwrap(),
    )
    .unwrap();
    let secrets = yaml(&text(SECRETS));
    for pod in pods() {
        let container = &pod["spec"]["containers"][0];
        let arguments = container["args"].as_array().unwrap();
        let arguments = arguments.iter().map(|argument| argument.as_str().unwrap());
        let mut check = command();
        // The image's own.
        check.env("CALLVAULT__HTTP__LISTEN", "0.0.0.0:9090");
        for from in container["envFrom"].as_array().unwrap() {
            let name = &from["secretRef"]["name"];
            let secret = secrets
                .iter()
                .find(|secret| secret["metadata"]["name"] == *name);
            let values = secret.expect("a secret that the example has")["stringData"].clone();
            for (name, value) in values.as_object().unwrap() {
                check.env(name, value.as_str().unwrap());
            }
        }
        let said = ran(check.args(["check", "--config"]).arg(&file));
        assert!(said.starts_with("ok    configuration"), "{said}");
        // Past what there is no such argument, `--help` is not reached.
        let help = ran(command().args(arguments).arg("--help"));
        assert!(help.contains("Usage: callvault"), "{help}");

        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        let mounted = volumes
            .iter()
            .filter_map(|volume| volume["configMap"]["name"].as_str());
        let name = configuration["metadata"]["name"].as_str().unwrap();
        assert_eq!(mounted.collect::<Vec<_>>(), [name]);
        assert_ne!(name, "callvault", "a hash, so that a change is rolled out");
    }
    let asked = only("TriggerAuthentication")["spec"]["secretTargetRef"][0].clone();
    let secret = secrets
        .iter()
        .find(|secret| secret["metadata"]["name"] == asked["name"]);
    assert!(secret.unwrap()["stringData"][asked["key"].as_str().unwrap()].is_string());
}

#[test]
fn the_limits_of_a_pod_leave_room_for_what_callvault_is_told_to_take() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("callvault.toml");
    fs::write(
        &file,
        only("ConfigMap")["data"]["callvault.toml"]
            .as_str()
            .unwrap(),
    )
    .unwrap();
    let limits = loaded(&file).limits;
    let mib = 1 << 20;
    for pod in pods() {
        let container = &pod["spec"]["containers"][0];
        let most = container["resources"]["limits"]["memory"].as_str().unwrap();
        let most: u64 = most.strip_suffix("Mi").unwrap().parse().unwrap();
        // README: what is idle, buffers, `limits.memory`, downloads, events above 256 KiB.
        let wanted = 17 + 16 + limits.memory / mib + 32 * 3 + 128;
        assert!(most > wanted, "{most} MiB for {wanted}");
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        let spool = volumes
            .iter()
            .find(|volume| volume["name"] == "spool")
            .unwrap();
        let room = spool["emptyDir"]["sizeLimit"].as_str().unwrap();
        let room: u64 = room.strip_suffix("Gi").unwrap().parse().unwrap();
        assert!(room << 30 > limits.spool);
        let mounts = container["volumeMounts"].as_array().unwrap();
        let spool = mounts
            .iter()
            .find(|mount| mount["name"] == "spool")
            .unwrap();
        assert_eq!(
            Path::new(spool["mountPath"].as_str().unwrap()),
            limits.spool_dir
        );
    }
}

#[test]
fn every_pod_is_as_restricted_as_a_namespace_can_ask_for() {
    let namespace = only("Namespace");
    let enforced = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    assert_eq!(enforced, "restricted");
    assert_eq!(
        only("ServiceAccount")["automountServiceAccountToken"],
        false
    );
    for pod in pods() {
        let spec = &pod["spec"];
        assert_eq!(spec["automountServiceAccountToken"], false);
        assert_eq!(spec["serviceAccountName"], "callvault");
        for no in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(spec[no].is_null(), "{no}");
        }
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
        assert_eq!(
            spec["securityContext"]["seccompProfile"]["type"],
            "RuntimeDefault"
        );
        let user = spec["securityContext"]["runAsUser"].as_u64().unwrap();
        let image = text("Dockerfile");
        assert!(image.contains(&format!("USER {user}:{user}")), "{user}");
        let [container] = spec["containers"].as_array().unwrap().as_slice() else {
            panic!("one container");
        };
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"][0], "ALL");
        assert!(
            container["image"]
                .as_str()
                .unwrap()
                .ends_with(env!("CARGO_PKG_VERSION"))
        );
    }
}

#[test]
fn a_worker_is_probed_and_stopped_as_it_is_made_for() {
    let deployment = only("Deployment");
    let spec = &deployment["spec"]["template"]["spec"];
    let container = &spec["containers"][0];
    let path = |probe: &str| container[probe]["httpGet"]["path"].clone();
    // A restart mends neither a store nor the broker.
    assert_eq!(path("livenessProbe"), "/livez");
    assert_eq!(path("startupProbe"), "/livez");
    assert_eq!(path("readinessProbe"), "/readyz");
    let arguments = container["args"].as_array().unwrap();
    let grace = arguments
        .iter()
        .position(|argument| argument == "--grace")
        .unwrap();
    let grace = parse_duration(arguments[grace + 1].as_str().unwrap()).unwrap();
    let kills_after = spec["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(
        kills_after >= grace.as_secs() + 10,
        "{kills_after} s, {grace:?}"
    );
    // How many there are is KEDA's to say.
    assert!(deployment["spec"]["replicas"].is_null());
    assert_eq!(
        only("ScaledObject")["spec"]["scaleTargetRef"]["name"],
        "callvault"
    );
    let budget = only("PodDisruptionBudget");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(budget["spec"]["selector"]["matchLabels"], *labels);
}

#[test]
fn the_network_policy_leads_to_public_addresses_and_to_no_others() {
    let policy = only("NetworkPolicy");
    let egress = policy["spec"]["egress"].as_array().unwrap();
    let rule = egress
        .iter()
        .find(|rule| rule["to"][0]["ipBlock"].is_object());
    let blocks: Vec<(Block, Vec<Block>)> = rule.unwrap()["to"]
        .as_array()
        .unwrap()
        .iter()
        .map(|to| {
            let block = &to["ipBlock"];
            let except = block["except"].as_array().unwrap();
            let except = except
                .iter()
                .map(|block| Block::parse(block.as_str().unwrap()));
            (
                Block::parse(block["cidr"].as_str().unwrap()),
                except.collect(),
            )
        })
        .collect();
    let leads_to = |address: IpAddr| {
        blocks.iter().any(|(block, except)| {
            block.has(address) && !except.iter().any(|except| except.has(address))
        })
    };
    let guard = Guard::new(&loaded(&deploy("kubernetes/example/callvault.toml")).fetch);
    let is_public = |address: IpAddr| guard.judge_address(address).is_ok();
    let edges = blocks
        .iter()
        .flat_map(|(block, except)| except.iter().chain([block]).flat_map(Block::edges));
    let rolled = (0..100_000).map(|_| {
        if fastrand::bool() {
            IpAddr::from(fastrand::u32(..).to_be_bytes())
        } else {
            IpAddr::from(fastrand::u128(..).to_be_bytes())
        }
    });
    for address in edges.chain(rolled) {
        // A network that translates addresses is left to the overlay.
        let translated = address.to_string().starts_with("64:ff9b::")
            || address.to_string().starts_with("::ffff:");
        if !translated {
            assert_eq!(leads_to(address), is_public(address), "{address}");
        }
    }
}

fn loaded(file: &Path) -> Config {
    let (config, mistakes) = Config::load(file, [("", ""); 0]).unwrap();
    assert!(mistakes.is_empty(), "{mistakes}");
    config
}

/// A block of addresses: `10.0.0.0/8`.
struct Block {
    first: IpAddr,
    bits: u32,
}

impl Block {
    fn parse(text: &str) -> Self {
        let (first, bits) = text.split_once('/').unwrap();
        Self {
            first: first.parse().unwrap(),
            bits: bits.parse().unwrap(),
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// The first and the last address of it, and those beside it.
    fn edges(&self) -> Vec<IpAddr> {
        match self.first {
            IpAddr::V4(first) => {
                let first = first.to_bits();
                let last = first | u32::MAX.checked_shr(self.bits).unwrap_or(0);
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                    .map(|bits| IpAddr::from(bits.to_be_bytes()))
                    .into()
            }
            IpAddr::V6(first) => {
                let first = first.to_bits();
                let last = first | u128::MAX.checked_shr(self.bits).unwrap_or(0);
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                    .map(|bits| IpAddr::from(bits.to_be_bytes()))
                    .into()
            }
        }
    }
}
