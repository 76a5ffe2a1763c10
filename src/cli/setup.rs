//! From the configuration to the parts of a running callvault, with every mistake in one report.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::Failure;
use crate::{
    attachment::{KeyTemplate, Kind, Planner, Tenants},
    body::Budget,
    check::{Checker, json::Schema},
    config::{self, Config, Mistake, Mistakes, Place, Sources},
    doctor::{self, Finding, machine::Asked},
    fetch::Fetcher,
    manifest::Worker,
    metrics::Metrics,
    outage::Outage,
    pipeline::{Archivist, Turns},
    store::{Bucket, Clients, OptionMistake, Setting, Stores},
};

/// What a command needs of a configuration that is right.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) archivist: Archivist,
    pub(super) queue: config::Queue,
    pub(super) http: config::Http,
    pub(super) job_time: Duration,
    pub(super) refusals: u32,
    /// The template of objects' keys.
    pub(super) key: String,
    /// What could be better in the configuration.
    pub(super) findings: Vec<Finding>,
    /// What it asks of the machine.
    pub(super) asked: Asked,
    /// `fetch.allow_private_addresses`
    pub(super) allow_private_addresses: bool,
    /// Each kind of attachment, in words.
    pub(super) kinds: Vec<String>,
    /// The effective configuration, as anybody may see it.
    pub(super) shown: Vec<config::Shown>,
}

impl Parts {
    /// How this machine does for it. Blocking.
    pub(super) fn machine(&self) -> Vec<Finding> {
        let stores = self.archivist.stores.iter();
        let mut folders: Vec<(String, &Path)> = stores
            .filter_map(|bucket| {
                // Of one that is not there yet, where it will be made.
                let folder = bucket
                    .folder()?
                    .ancestors()
                    .find(|folder| folder.is_dir())?;
                Some((bucket.name().to_owned(), folder))
            })
            .collect();
        folders.sort();
        doctor::machine::machine(&self.asked, &folders)
    }
}

/// Reads the configuration and builds what it asks for. A bucket's folder is made where it is missing, and that is told:
/// where a disk is to be mounted, nothing should be archived below its place.
pub(super) fn load(path: &Path) -> Result<Parts, Failure> {
    let (config, mistakes) = read(path)?;
    let missing = missing_folders(&config);
    let parts = build(config, mistakes)?;
    for (bucket, folder) in missing {
        let folder = folder.display();
        tracing::info!(bucket, %folder, "made the bucket's folder; if a disk is to be mounted there, stop, and mount it");
    }
    Ok(parts)
}

/// As [`load`], for a command that only looks: of folders that are missing nothing is left, and their buckets are
/// returned.
pub(super) fn look(path: &Path) -> Result<(Parts, Vec<(String, PathBuf)>), Failure> {
    let (config, mistakes) = read(path)?;
    let missing = missing_folders(&config);
    let is_new = |folder: &&Path| !folder.exists();
    let new: Vec<PathBuf> = missing
        .iter()
        .flat_map(|(_, folder)| folder.ancestors().take_while(is_new))
        .map(Path::to_owned)
        .collect();
    let parts = build(config, mistakes);
    for folder in new {
        // The deepest ones come first. What is not empty is somebody's by now.
        let _ = std::fs::remove_dir(folder);
    }
    Ok((parts?, missing))
}

fn missing_folders(config: &Config) -> Vec<(String, PathBuf)> {
    let missing =
        |bucket: &config::Bucket| Some((bucket.name.clone(), Bucket::missing_folder(bucket)?));
    config.buckets.iter().filter_map(missing).collect()
}

/// As [`load`], for a command that looks at an archive: no folder is made where one is missing. That of a share that is
/// not mounted would pass for an archive without a call.
pub(super) fn load_archive(path: &Path) -> Result<Parts, Failure> {
    let (config, mistakes) = read(path)?;
    if let Some((name, folder)) = missing_folders(&config).first() {
        let folder = folder.display();
        return Err(Failure::unreachable(anyhow::anyhow!(
            "bucket {name:?}: its folder {folder} is not there: mount it, or correct the bucket's url"
        )));
    }
    build(config, mistakes)
}

/// As [`load`], of a file that says everything: the environment has no say.
pub(super) fn load_without_environment(path: &Path) -> Result<Parts, Failure> {
    let nothing: [(OsString, OsString); 0] = [];
    let (config, mistakes) = Config::load(path, nothing).map_err(Failure::usage)?;
    build(config, mistakes)
}

/// Reads the configuration, for a command that needs no more than its values.
pub(super) fn settings(path: &Path) -> Result<Config, Failure> {
    let (config, mistakes) = read(path)?;
    if mistakes.is_empty() {
        Ok(config)
    } else {
        Err(Failure::usage(mistakes))
    }
}

fn read(path: &Path) -> Result<(Config, Mistakes), Failure> {
    Config::load(path, std::env::vars_os()).map_err(Failure::usage)
}

/// Builds everything that the configuration names, so that what only a later stage can judge is judged
/// in the same run.
fn build(config: Config, mut mistakes: Mistakes) -> Result<Parts, Failure> {
    let shown = config.shown();
    let findings = doctor::configuration::configuration(&config);
    let Config {
        queue,
        fetch,
        archive,
        buckets,
        attachments,
        tenants,
        limits,
        http,
        sources,
    } = config;
    let template = template(&archive.key, &sources, &mut mistakes);
    let stores = stores(&buckets, &sources, &mut mistakes);
    let mut words = Vec::new();
    let kinds: Vec<Kind> = attachments
        .into_iter()
        .filter_map(|kind| kind_of(kind, &sources, &mut words, &mut mistakes))
        .collect();
    words.push(format!(
        "other: all else, to {}, unchecked",
        archive.manifest_bucket
    ));
    if let Err(error) = Budget::try_spool(&limits.spool_dir) {
        let what = format!("no temporary file can be written there: {error}");
        let mend = "name a folder on a disk that callvault's user may write to";
        mistakes.push(sources.mistake("limits.spool_dir", what, mend));
    }
    let manifests = stores.get(&archive.manifest_bucket).cloned();
    let (Some(template), Some(manifests)) = (template, manifests) else {
        return Err(Failure::usage(mistakes));
    };
    if !mistakes.is_empty() {
        return Err(Failure::usage(mistakes));
    }
    let planner = Planner::new(
        kinds,
        template,
        &archive.manifest_bucket,
        &archive.quarantine_bucket,
        tenants_of(tenants),
    );
    let metrics = Metrics::new(planner.kinds(), stores.iter().map(|bucket| bucket.name()));
    let asked = Asked {
        prefetch: queue.prefetch,
        limits: limits.clone(),
    };
    let archivist = Archivist {
        planner,
        // As many connections as the provider's events have attachments.
        fetcher: Fetcher::new(&fetch, 3 * usize::from(queue.prefetch))
            .map_err(Failure::unreachable)?,
        stores,
        budget: Budget::new(&limits),
        spool: Outage::of("the spool folder"),
        manifests,
        include_event: archive.include_event,
        worker: Worker::this(),
        turns: Turns::default(),
        metrics: Arc::new(metrics.map_err(Failure::unreachable)?),
    };
    Ok(Parts {
        archivist,
        queue,
        http,
        job_time: limits.job_time,
        refusals: fetch.refusals,
        key: archive.key,
        findings,
        asked,
        allow_private_addresses: fetch.allow_private_addresses,
        kinds: words,
        shown,
    })
}

fn template(key: &str, sources: &Sources, mistakes: &mut Mistakes) -> Option<KeyTemplate> {
    let parsed = KeyTemplate::parse(key);
    parsed
        .map_err(|error| {
            let mend = r#"the default is "{date}/{call_id}/{request_id}/{file}""#;
            mistakes.push(sources.mistake("archive.key", error.to_string(), mend));
        })
        .ok()
}

fn stores(buckets: &[config::Bucket], sources: &Sources, mistakes: &mut Mistakes) -> Stores {
    let (mut open, clients) = (Vec::new(), Clients::default());
    for settings in buckets {
        match Bucket::open(settings, &clients) {
            Ok(bucket) => open.push(bucket),
            Err(found) => {
                for mistake in found {
                    let OptionMistake {
                        setting,
                        what,
                        mend,
                    } = mistake;
                    let mistake = match setting {
                        Setting::Key(key) => {
                            let key = format!("buckets.{}.{key}", settings.name);
                            sources.mistake(&key, what, mend)
                        }
                        Setting::Variable(name) => Mistake {
                            place: Place::Variable(name),
                            key: String::new(),
                            what,
                            mend,
                        },
                    };
                    // A variable is every bucket's.
                    if !mistakes.iter().any(|told| *told == mistake) {
                        mistakes.push(mistake);
                    }
                }
            }
        }
    }
    Stores::new(open)
}

fn kind_of(
    kind: config::Kind,
    sources: &Sources,
    words: &mut Vec<String>,
    mistakes: &mut Mistakes,
) -> Option<Kind> {
    let key = |field: &str| format!("attachments.{}.{field}", kind.name);
    let file = glob::Pattern::new(&kind.file)
        .map_err(|error| {
            let mend = r#"write a file name, or a glob such as "recording*.wav""#;
            mistakes.push(sources.mistake(&key("file"), format!("not a glob: {error}"), mend));
        })
        .ok();
    let (check, how) = match kind.check {
        config::Check::None => (Some(Checker::None), "unchecked".to_owned()),
        config::Check::Wav(limits) => (Some(Checker::Wav(limits)), "WAV".into()),
        config::Check::Json(None) => (Some(Checker::Json(None)), "JSON of any shape".into()),
        config::Check::Json(Some(schema)) => match Schema::parse(&schema.text) {
            Ok(parsed) => {
                let how = format!("JSON, schema {} ({})", schema.origin, parsed.draft());
                (Some(Checker::Json(Some(parsed))), how)
            }
            Err(error) => {
                let what = format!("{}: {error}", schema.origin);
                let mend = "correct the schema, or leave `schema` out to check the syntax alone";
                mistakes.push(sources.mistake(&key("schema"), what, mend));
                (None, String::new())
            }
        },
    };
    words.push(format!(
        "{}: {}, to {}, {how}",
        kind.name, kind.file, kind.bucket
    ));
    Some(Kind {
        name: kind.name,
        file: file?,
        check: check?,
        bucket: kind.bucket,
        max_size: kind.max_size,
    })
}

fn tenants_of(tenants: Vec<config::Tenant>) -> Tenants {
    let entry =
        |tenant: config::Tenant| Some((tenant.organization_id.parse().ok()?, tenant.buckets));
    tenants.into_iter().filter_map(entry).collect()
}
