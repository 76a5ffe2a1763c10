//! A bucket's URL and options → its client.
//!
//! The stores' own builders drop option keys that they do not know; here each one is a mistake, for a
//! misspelt region or endpoint would otherwise write recordings somewhere else.

mod clouds;
mod judge;

use std::{collections::BTreeMap, ffi::OsString, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig, aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder, local::LocalFileSystem,
    memory::InMemory, path::Path,
};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use self::{
    clouds::Cloud,
    judge::{Rule, is_name},
};
use super::{Clients, OptionMistake, Setting, uploads::Uploads};

type Options = BTreeMap<String, SecretString>;

/// A bucket's client, and what is known of its store.
pub(super) struct Opened {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) sends: Sends,
    pub(super) prefix: Path,
    pub(super) uploads: Uploads,
    /// Whether writes are to be conditional.
    pub(super) conditional: bool,
}

/// How bodies get to a store.
#[derive(Debug, Clone)]
pub(super) enum Sends {
    /// As bytes in memory: nothing of ours is between the client and the store, or the client computes something of
    /// its own over each.
    Bytes,
    /// As they are read, by our own HTTP service.
    Streams {
        /// The client for parts, which may sign otherwise.
        parts: Arc<dyn ObjectStore>,
        /// Whether it signs a part's digest.
        signed: bool,
    },
}

impl Opened {
    fn new(store: Arc<dyn ObjectStore>, uploads: Uploads, sends: Sends) -> Self {
        Self {
            store,
            uploads,
            sends,
            prefix: Path::default(),
            conditional: true,
        }
    }
}

/// The longest that one request may take. One that streams a body has as much more as a slow line needs; there it is
/// the longest silence.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn open(
    url: &str,
    options: &Options,
    clients: &Clients,
) -> Result<Opened, Vec<OptionMistake>> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    match scheme {
        "s3" => cloud::<AmazonS3Builder>(bucket, prefix, options, clients),
        "gs" => cloud::<GoogleCloudStorageBuilder>(bucket, prefix, options, clients),
        "az" => cloud::<MicrosoftAzureBuilder>(bucket, prefix, options, clients),
        "file" => no_options(options).and_then(|()| folder(url)),
        "memory" => no_options(options).map(|()| {
            let store = Arc::new(InMemory::new());
            Opened::new(store, Uploads::InMemory, Sends::Bytes)
        }),
        _ => Err(vec![mistake(
            Setting::Key("url".into()),
            format!("there is no store for {scheme:?} URLs"),
            "use s3://, gs://, az://, file: or memory:",
        )]),
    }
}

/// Opens a bucket of one of the clouds. All that can be wrong with its settings is told at once, wherever they
/// are from; only what its client alone knows is left to the client.
fn cloud<C: Cloud>(
    bucket: &str,
    prefix: &str,
    options: &Options,
    clients: &Clients,
) -> Result<Opened, Vec<OptionMistake>> {
    let mut mistakes = Vec::new();
    let mut settings = Vec::new();
    let mut said = Vec::new();
    let mut builder = C::from_env()
        .with_retry(retry())
        .with_client_options(client_options());
    // Those replaced what the environment says of connections: `AWS_PROXY_URL`.
    for (name, value) in environment() {
        if let Some(key) = key_of::<C>(&name).filter(C::is_clients) {
            builder = builder.with(key, value);
        }
    }
    for (name, value) in options {
        let value = value.expose_secret();
        let option = Setting::Key(format!("options.{name}"));
        match name.to_ascii_lowercase().parse::<C::Key>() {
            Ok(key) => {
                builder = builder.with(key, value);
                said.push(key);
                settings.push((option, C::rule(&key), value.to_owned()));
            }
            Err(_) => mistakes.push(mistake(option, "not an option of this store", C::KNOWN)),
        }
    }
    for (setting, key, rule, value) in variables(&builder) {
        said.extend(key);
        settings.push((setting, rule, value));
    }
    for (setting, rule, value) in &settings {
        if let Err((what, mend)) = rule.judge(value) {
            mistakes.push(mistake(setting.clone(), what, mend));
        }
    }
    let option = |name: &str| options.get(name).map(ExposeSecret::expose_secret);
    let allow_http = "allow_http".parse().ok();
    let allowed = allow_http.and_then(|key| builder.get(&key));
    if option("endpoint").is_some_and(|url| url.starts_with("http://"))
        && allowed.is_none_or(|allowed| !clouds::TRUE.contains(&&*allowed.to_ascii_lowercase()))
    {
        let mend = "use https://, or add allow_http = \"true\"";
        mistakes.push(mistake(
            Setting::Key("options.endpoint".into()),
            "it is an http:// URL, without TLS",
            mend,
        ));
    }
    // Azure has containers such as `$web`.
    if !is_name(bucket.trim_start_matches('$')) {
        mistakes.push(mistake(
            Setting::Key("url".into()),
            "no store has a bucket of that name",
            "use letters, digits, \".\", \"_\" and \"-\"",
        ));
    }
    let path = Path::parse(prefix);
    if path.is_err() {
        mistakes.push(mistake(
            Setting::Key("url".into()),
            "the prefix in the URL cannot be part of an object key",
            "use letters, digits, \"-\", \"_\", \".\" and single slashes",
        ));
    }
    let prefix = match path {
        Ok(prefix) if mistakes.is_empty() => prefix,
        _ => return Err(mistakes),
    };
    match builder.finish(bucket, &said, clients) {
        Ok(opened) => Ok(Opened { prefix, ..opened }),
        Err(error) => {
            let values = settings.iter().map(|(_, _, value)| value.as_str());
            let what = without_values(&error.to_string(), values);
            Err(vec![mistake(
                Setting::Key("options".into()),
                what,
                C::KNOWN,
            )])
        }
    }
}

/// The environment variables that a store's client goes by; those that an option overrides say nothing.
fn variables<C: Cloud>(builder: &C) -> Vec<(Setting, Option<C::Key>, Rule, String)> {
    let judged = |name: &str, value: &str| {
        if let Some((_, rule)) = C::MORE_VARIABLES.iter().find(|(more, _)| *more == name) {
            return Some((None, *rule));
        }
        let key = key_of::<C>(name)?;
        (builder.get(&key).as_deref() == Some(value)).then(|| (Some(key), C::rule(&key)))
    };
    environment()
        .filter_map(|(name, value)| {
            let (key, rule) = judged(&name, &value)?;
            Some((Setting::Variable(name), key, rule, value))
        })
        .collect()
}

/// The option that a variable sets, if it is one of the cloud's.
fn key_of<C: Cloud>(name: &str) -> Option<C::Key> {
    let name = name.starts_with(C::VARIABLES).then_some(name)?;
    name.to_ascii_lowercase().parse().ok()
}

/// The variables that are text: a client, too, passes over the others.
fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text)
}

/// An error's words without the values that it is about, and without what stands between quotes: it may be a
/// credential in the wrong place.
fn without_values<'a>(text: &str, values: impl Iterator<Item = &'a str>) -> String {
    // What is shorter is rather a word of the message.
    const SHORTEST: usize = 4;
    let text = values
        .filter(|value| value.len() >= SHORTEST)
        .fold(text.to_owned(), |text, value| text.replace(value, "…"));
    let parts = text.split(['"', '`']).enumerate();
    let outside = parts.map(|(at, part)| if at % 2 == 0 { part } else { "…" });
    outside.collect::<Vec<_>>().join("\"")
}

/// The folder of a bucket that is one.
pub(super) fn folder_of(url: &str) -> Option<std::path::PathBuf> {
    let url = Url::parse(url).ok().filter(|url| url.scheme() == "file")?;
    url.to_file_path().ok()
}

/// A folder; made where it is missing. Files are synced before they count as written, or a power cut
/// could take what has been acknowledged.
fn folder(url: &str) -> Result<Opened, Vec<OptionMistake>> {
    let Some(dir) = folder_of(url) else {
        return Err(vec![mistake(
            Setting::Key("url".into()),
            "not the URL of a folder",
            "write file: and the folder's path",
        )]);
    };
    let opened = std::fs::create_dir_all(&dir)
        .map_err(|error| error.to_string())
        .and_then(|()| LocalFileSystem::new_with_prefix(&dir).map_err(|error| error.to_string()));
    match opened {
        Ok(store) => {
            let files = Arc::new(store.with_fsync(true));
            let store: Arc<dyn ObjectStore> = Arc::clone(&files) as _;
            let uploads = Uploads::Folder { root: dir, files };
            Ok(Opened::new(store, uploads, Sends::Bytes))
        }
        Err(error) => {
            let mend = "create it, or give callvault's user the right to";
            Err(vec![mistake(
                Setting::Key("url".into()),
                format!("the folder {} cannot be used: {error}", dir.display()),
                mend,
            )])
        }
    }
}

fn no_options(options: &Options) -> Result<(), Vec<OptionMistake>> {
    let mend = "leave it out: a folder and memory have no options";
    let mistakes: Vec<_> = options
        .keys()
        .map(|name| {
            mistake(
                Setting::Key(format!("options.{name}")),
                "not an option of this store",
                mend,
            )
        })
        .collect();
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(mistakes)
    }
}

fn mistake(setting: Setting, what: impl Into<String>, mend: &str) -> OptionMistake {
    OptionMistake {
        setting,
        what: what.into(),
        mend: mend.into(),
    }
}

/// The client's own quick retries; outages are waited out above it.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 2,
        retry_timeout: Duration::from_secs(30),
    }
}

fn client_options() -> ClientOptions {
    ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
}
