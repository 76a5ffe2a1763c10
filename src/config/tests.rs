//! What is read from a right configuration: the file, the environment over it, the defaults.

use std::fs;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;

/// What every configuration needs; appended, so that lines count from the top of a sample.
pub(super) const BUCKETS: &str = "
[buckets.documents]
url = 'memory:'
[buckets.recordings]
url = 'memory:'
[buckets.quarantine]
url = 'memory:'
";

pub(super) struct Loaded {
    folder: TempDir,
    outcome: Result<(Config, Mistakes), Mistakes>,
}

impl Loaded {
    /// The report, its lines without the folder's name.
    pub(super) fn report(&self) -> Vec<String> {
        let mistakes = match &self.outcome {
            Ok((_, mistakes)) | Err(mistakes) => mistakes.to_string(),
        };
        let folder = format!("{}/", self.folder.path().display());
        mistakes
            .lines()
            .map(|line| line.replace(&folder, ""))
            .collect()
    }

    #[track_caller]
    pub(super) fn valid(self) -> Config {
        assert_eq!(self.report(), [""; 0]);
        self.outcome.unwrap().0
    }
}

pub(super) fn load(text: &str, environment: &[(&str, &str)]) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("callvault.toml");
    fs::write(&file, text).unwrap();
    fs::write(folder.path().join("any.json"), "true").unwrap();
    let outcome = Config::load(&file, environment.iter().copied());
    Loaded { folder, outcome }
}

pub(super) fn with_buckets(text: &str, environment: &[(&str, &str)]) -> Loaded {
    load(&format!("{text}\n{BUCKETS}"), environment)
}

#[test]
fn the_environment_stands_over_the_file() {
    let text = "
[queue]
prefetch = 3
[buckets.Main]
url = 'memory:'
";
    let config = with_buckets(text, &[
        ("CALLVAULT__QUEUE__URL", "amqps://u:p@broker/calls"),
        ("CALLVAULT__QUEUE__PREFETCH", "64"),
        ("CALLVAULT__QUEUE__DECLARE", "false"),
        ("CALLVAULT__QUEUE__NAME", "7"),
        ("CALLVAULT__QUEUE__RETRY_DELAYS", r#"["5s", "1h 30m"]"#),
        ("CALLVAULT__FETCH__READ_TIMEOUT", "7s"),
        ("CALLVAULT__FETCH__ALLOWED_HOSTS", "['Files.Example.com', '*.example.com', '127.0.0.1']"),
        ("CALLVAULT__LIMITS__MEMORY", "1GiB"),
        ("CALLVAULT__ARCHIVE__KEY", "{date}/{file}"),
        ("CALLVAULT__BUCKETS__EXTRA__URL", "s3://extra"),
        ("CALLVAULT__BUCKETS__EXTRA__OPTIONS", "{ region = 'eu' }"),
        ("CALLVAULT__BUCKETS__EXTRA__OPTIONS__SECRET_ACCESS_KEY", "canary"),
        ("CALLVAULT__BUCKETS__MAIN__URL", "gs://main"),
        ("CALLVAULT__ATTACHMENTS__RECORDING__MAX_SIZE", "1GiB"),
        ("CALLVAULT__TENANTS", "[{ organization_id = 'fb545ce8-68e1-4303-ab23-6ba0149fc4b1', buckets = { recordings = 'Main' } }]"),
        ("CALLVAULT_CONFIG", "not of this family"),
        ("PATH", "/bin"),
    ])
    .valid();
    assert_eq!(config.queue.url.expose_secret(), "amqps://u:p@broker/calls");
    assert_eq!((config.queue.prefetch, config.queue.declare), (64, false));
    assert_eq!(config.queue.name, "7");
    assert_eq!(
        config.queue.retry_delays,
        [5, 5400].map(Duration::from_secs)
    );
    assert_eq!(config.fetch.read_timeout, Duration::from_secs(7));
    assert_eq!(
        config.fetch.allowed_hosts,
        ["files.example.com", "*.example.com", "127.0.0.1"]
    );
    assert_eq!(config.limits.memory, 1 << 30);
    assert_eq!(config.archive.key, "{date}/{file}");
    let buckets: Vec<_> = config
        .buckets
        .iter()
        .map(|b| (b.name.as_str(), b.url.as_str()))
        .collect();
    assert_eq!(
        (buckets[0], buckets[4]),
        (("Main", "gs://main"), ("extra", "s3://extra"))
    );
    let options = &config.buckets[4].options;
    assert_eq!(options["region"].expose_secret(), "eu");
    assert_eq!(options["secret_access_key"].expose_secret(), "canary");
    assert_eq!(config.attachments[1].max_size, 1 << 30);
    assert_eq!(config.tenants[0].buckets["recordings"], "Main");
}

#[test]
fn relative_paths_are_seen_from_the_file() {
    let text = "
[limits]
spool_dir = 'spool'
[attachments.a]
file = 'a.json'
check = 'json'
schema = 'schemas/a.json'
bucket = 'documents'
[buckets.a]
url = 'file:../archive/./documents'
";
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("etc/schemas")).unwrap();
    fs::create_dir_all(root.join("etc/spool")).unwrap();
    fs::write(root.join("etc/schemas/a.json"), "{}").unwrap();
    fs::write(root.join("etc/callvault.toml"), format!("{text}{BUCKETS}")).unwrap();
    let (config, mistakes) = Config::load(&root.join("etc/callvault.toml"), [("", ""); 0]).unwrap();
    assert_eq!(mistakes.to_string(), "");
    assert_eq!(
        config.buckets[0].url,
        format!("file://{}/archive/documents", root.display())
    );
    assert_eq!(config.limits.spool_dir, root.join("etc/spool"));
    let Check::Json(Some(schema)) = &config.attachments[0].check else {
        panic!("no schema")
    };
    assert_eq!(schema.text, "{}");
    assert_eq!(
        schema.origin,
        root.join("etc/schemas/a.json").display().to_string()
    );
}

#[test]
fn a_key_that_is_not_set_is_located_by_the_table_around_it() {
    let config = with_buckets(
        "[queue]\nprefetch = 3\n[attachments.a]\nfile = 'a'\nbucket = 'documents'",
        &[],
    )
    .valid();
    let line = |key| match config.sources.locate(key) {
        Place::Line { line, .. } => Some(line),
        _ => None,
    };
    assert_eq!(line("queue.prefetch"), Some(2));
    assert_eq!(line("queue.url"), Some(1));
    assert_eq!(line("attachments.a.wav.channels[2]"), Some(3));
    assert_eq!(line("archive.key"), None);
    assert!(config.sources.is_set("queue.prefetch") && !config.sources.is_set("queue.url"));
    let mistake = config
        .sources
        .mistake("archive.key", "no {call_id}", "add it");
    assert!(
        mistake
            .to_string()
            .ends_with("callvault.toml: archive.key: no {call_id}; add it")
    );
}

#[test]
fn kinds_are_tried_in_the_order_of_the_file_and_replace_the_default_ones() {
    let text = "
[attachments.zebra]
file = 'z*'
bucket = 'documents'
[attachments.apple]
file = 'a*'
check = 'wav'
bucket = 'recordings'
wav = { channels = [2, 1] }
[attachments.mango]
file = '*'
check = 'json'
bucket = 'documents'
";
    let config = with_buckets(text, &[("CALLVAULT__ATTACHMENTS__ZEBRA__MAX_SIZE", "1KiB")]).valid();
    let kinds: Vec<_> = config
        .attachments
        .iter()
        .map(|kind| (kind.name.as_str(), kind.max_size))
        .collect();
    assert_eq!(
        kinds,
        [("zebra", 1 << 10), ("apple", 4 << 30), ("mango", 8 << 20)]
    );
    assert!(matches!(config.attachments[0].check, Check::None));
    assert!(
        matches!(&config.attachments[1].check, Check::Wav(limits) if limits.channels == Some(vec![2, 1]))
    );
    assert!(matches!(config.attachments[2].check, Check::Json(None)));
}

#[test]
fn an_environment_may_change_what_a_default_kind_is() {
    let config = with_buckets("", &[("CALLVAULT__ATTACHMENTS__TRANSCRIPT__CHECK", "none")]).valid();
    assert!(matches!(config.attachments[2].check, Check::None));
    assert_eq!(config.attachments[2].max_size, 64 << 20);
}

/// Everything but where it comes from.
fn values(config: &Config) -> String {
    let check = |check: &Check| match check {
        Check::Json(Some(schema)) => schema.text.clone(),
        other => format!("{other:?}"),
    };
    let kinds: Vec<_> = config
        .attachments
        .iter()
        .map(|kind| {
            (
                &kind.name,
                &kind.file,
                check(&kind.check),
                &kind.bucket,
                kind.max_size,
            )
        })
        .collect();
    let Config {
        queue,
        fetch,
        archive,
        tenants,
        limits,
        http,
        ..
    } = config;
    let url = queue.url.expose_secret();
    format!(
        "{url} {queue:#?} {fetch:#?} {archive:#?} {kinds:#?} {tenants:#?} {limits:#?} {http:#?}"
    )
}

fn manual() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/callvault.toml")
}

#[test]
fn the_manual_is_valid_and_shows_the_defaults() {
    let (manual, mistakes) = Config::load(&manual(), [("", ""); 0]).unwrap();
    assert_eq!(mistakes.to_string(), "");
    assert_eq!(values(&manual), values(&with_buckets("", &[]).valid()));
    let names: Vec<_> = manual
        .buckets
        .iter()
        .map(|bucket| bucket.name.as_str())
        .collect();
    assert_eq!(names, ["documents", "recordings", "quarantine"]);
}

#[test]
fn the_examples_in_the_manual_can_all_be_used() {
    let is_key = |text: &str| text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    let is_example = |line: &str| {
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| is_key(key))
    };
    let text = fs::read_to_string(manual()).unwrap();
    let text: Vec<&str> = text
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|line| is_example(line))
                .unwrap_or(line)
        })
        .collect();
    let text = text.join("\n").replace(
        "schemas/",
        &format!("{}/schemas/", manual().parent().unwrap().display()),
    );
    let config = load(&text, &[]).valid();
    assert_eq!((config.buckets.len(), config.tenants.len()), (7, 1));
}
