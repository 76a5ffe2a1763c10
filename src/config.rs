//! The configuration: one TOML file, read into types, with every mistake found in one go.
//!
//! [`Config::load`] is the only place that reads the configuration file, the schemas that it names
//! and the `CALLVAULT__` environment. It knows the shape of the file and the names inside it; what
//! only a later stage can judge (a store's options, a JSON Schema, a key template) is judged there,
//! and [`Sources::mistake`] gives the key its line for the same report.

mod broker;
mod buckets;
mod environment;
mod folder;
mod kinds;
mod mistake;
mod read;
mod sections;
mod show;
mod tree;
mod urls;
mod value;

#[cfg(test)]
mod mistake_tests;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::SecretString;

use self::{
    folder::Folder,
    read::{Report, Section},
};
pub use self::{
    mistake::{Mistake, Mistakes, Place},
    show::{SetBy, Shown},
    tree::Sources,
};

/// Everything that a worker is told, with the defaults filled in.
#[derive(Debug)]
pub struct Config {
    /// `[queue]`
    pub queue: Queue,
    /// `[fetch]`
    pub fetch: Fetch,
    /// `[archive]`
    pub archive: Archive,
    /// In the file's order; names are unique.
    pub buckets: Vec<Bucket>,
    /// The attachment kinds, in the order in which they are tried.
    pub attachments: Vec<Kind>,
    /// `[[tenants]]`; organizations are unique.
    pub tenants: Vec<Tenant>,
    /// `[limits]`
    pub limits: Limits,
    /// `[http]`
    pub http: Http,
    /// Where each key was set.
    pub sources: Sources,
}

impl Config {
    /// Reads the file, and over it the environment, best effort: what is wrong is replaced by its
    /// default or left out, so that later stages can judge the rest and add their mistakes to these.
    /// Nothing may run on a configuration that has any. `Err` is a file that cannot be read or is
    /// not TOML. The environment is usually [`std::env::vars_os`].
    pub fn load<K: Into<OsString>, V: Into<OsString>>(
        file: &Path,
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(Self, Mistakes), Mistakes> {
        let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
        let mut tree = tree::parse_file(file, &text)?;
        kinds::add_defaults(&mut tree, file);

        let mut mistakes = Mistakes::default();
        let environment = environment
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        environment::overlay(&mut tree, environment, &mut mistakes);

        let mut report = Report {
            sources: Sources::of(file, &tree),
            mistakes,
        };
        let mut config = Self::read(Section::root(&mut report, tree), &Folder::of(file));
        config.sources = report.sources;
        Ok((config, report.mistakes))
    }

    fn read(mut root: Section<'_>, folder: &Folder) -> Self {
        let (buckets, names) = buckets::buckets(root.section("buckets"), folder);
        let queue = sections::queue(root.section("queue"), folder);
        let fetch = sections::fetch(root.section("fetch"));
        let archive = sections::archive(root.section("archive"), &names);
        let limits = sections::limits(root.section("limits"), &fetch, folder);
        let around = kinds::Around {
            names: &names,
            folder,
        };
        let attachments = kinds::kinds(root.section("attachments"), around);
        let tenants = buckets::tenants(&mut root, &names);
        let http = sections::http(root.section("http"));
        root.finish();
        let sources = Sources::default();
        Self {
            queue,
            fetch,
            archive,
            buckets,
            attachments,
            tenants,
            limits,
            http,
            sources,
        }
    }
}

fn unreadable(file: &Path, error: &std::io::Error) -> Mistakes {
    let mut mistakes = Mistakes::default();
    mistakes.push(Mistake {
        place: Place::File(file.to_owned()),
        key: String::new(),
        what: format!("cannot be read: {error}"),
        mend: "name a readable file with --config FILE or CALLVAULT_CONFIG".to_owned(),
    });
    mistakes
}

/// `[queue]`: the broker, and the names of what callvault uses there.
#[derive(Debug)]
pub struct Queue {
    /// An AMQP 0-9-1 URI; it may hold a password.
    pub url: SecretString,
    /// The topic exchange to which the events are published.
    pub exchange: String,
    /// The work queue's bindings.
    pub routing_keys: Vec<String>,
    /// The work queue, and the prefix of the retry and dead-letter queues.
    pub name: String,
    /// Events in flight in one worker.
    pub prefetch: u16,
    /// How long an event waits before each further attempt.
    pub retry_delays: Vec<Duration>,
    /// Whether callvault declares exchange, queues and bindings, or finds them there.
    pub declare: bool,
}

/// `[fetch]`: where attachments may come from, and how long that may take.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// Exact host names, `*.example.com`, or `*`.
    pub allowed_hosts: Vec<String>,
    /// Whether `http://` URLs are fetched too.
    pub allow_http: bool,
    /// Whether addresses that are not public may be connected to.
    pub allow_private_addresses: bool,
    /// How long connecting to an origin may take.
    pub connect_timeout: Duration,
    /// The longest silence of an origin.
    pub read_timeout: Duration,
    /// How many redirects are followed for one attachment.
    pub max_redirects: u32,
    /// The attempt at which a refusal (401, 403, 404, 410) is final.
    pub refusals: u32,
}

/// `[archive]`: what an event becomes.
#[derive(Debug)]
pub struct Archive {
    /// The template of an object's key.
    pub key: String,
    /// A name in `[buckets]`.
    pub manifest_bucket: String,
    /// A name in `[buckets]`.
    pub quarantine_bucket: String,
    /// Whether a manifest holds the whole event.
    pub include_event: bool,
}

/// `[buckets.<name>]`: one place in an object store.
#[derive(Debug)]
pub struct Bucket {
    /// As in `[buckets.<name>]`.
    pub name: String,
    /// `s3://bucket/prefix`, `gs://`, `az://`, `file:///absolute/folder` or `memory:`, without a
    /// trailing slash, query or credentials.
    pub url: String,
    /// The store's own options; they may hold credentials.
    pub options: BTreeMap<String, SecretString>,
}

/// `[attachments.<kind>]`: how one kind of attachment is recognised, checked and kept.
#[derive(Debug)]
pub struct Kind {
    /// As in `[attachments.<kind>]`.
    pub name: String,
    /// A glob on the last segment of the URL's path.
    pub file: String,
    /// How its bytes are checked.
    pub check: Check,
    /// A name in `[buckets]`.
    pub bucket: String,
    /// Bytes.
    pub max_size: u64,
}

/// How the bytes of a kind are checked.
#[derive(Debug)]
pub enum Check {
    /// Archived as it comes.
    None,
    /// A valid WAV file, within limits.
    Wav(WavLimits),
    /// Well-formed JSON, and valid against a schema where there is one.
    Json(Option<Schema>),
}

/// What a recording may look like beyond being a valid WAV file; `None` is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WavLimits {
    /// The numbers of channels to accept.
    pub channels: Option<Vec<u16>>,
    /// The sample rates to accept.
    pub sample_rates_hz: Option<Vec<u32>>,
}

/// The text of a JSON Schema, as read from its file.
#[derive(Debug)]
pub struct Schema {
    /// The file's path, or `built in`.
    pub origin: String,
    /// The schema, not yet compiled.
    pub text: String,
}

/// `[[tenants]]`: other buckets for one organization.
#[derive(Debug)]
pub struct Tenant {
    /// A UUID, in lower case.
    pub organization_id: String,
    /// From a name in `[buckets]` to another name there.
    pub buckets: BTreeMap<String, String>,
}

/// `[limits]`: what one worker may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of attachments in memory at once, over all jobs.
    pub memory: u64,
    /// Bytes of attachments in temporary files at once, over all jobs.
    pub spool: u64,
    /// An existing directory, absolute.
    pub spool_dir: PathBuf,
    /// The longest that one event may take.
    pub job_time: Duration,
}

/// `[http]`: health.
#[derive(Debug)]
pub struct Http {
    /// The address to serve them on.
    pub listen: std::net::SocketAddr,
}
