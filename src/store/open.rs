//! A bucket's URL and options → its client.
//!
//! The stores' own builders drop option keys that they do not know; here each one is a mistake, for a
//! misspelt region or endpoint would otherwise write recordings somewhere else.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    local::LocalFileSystem,
    memory::InMemory,
    path::Path,
};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::OptionMistake;
use crate::roots;

type Options = BTreeMap<String, SecretString>;
type Opened = (Arc<dyn ObjectStore>, Path, Option<PathBuf>);

/// The longest that one request may take, 16 MiB of body over a slow line included.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn open(url: &str, options: &Options) -> Result<Opened, Vec<OptionMistake>> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    match scheme {
        "s3" => cloud(prefix, options, S3_KEYS, |keys: Keys<AmazonS3ConfigKey>| {
            let builder = AmazonS3Builder::from_env()
                .with_retry(retry())
                .with_client_options(client());
            let builder = keys
                .into_iter()
                .fold(builder, |b, (key, value)| b.with_config(key, value));
            Ok(Arc::new(builder.with_bucket_name(bucket).build()?))
        }),
        "gs" => cloud(prefix, options, GCS_KEYS, |keys: Keys<GoogleConfigKey>| {
            let builder = GoogleCloudStorageBuilder::from_env()
                .with_retry(retry())
                .with_client_options(client());
            let builder = keys
                .into_iter()
                .fold(builder, |b, (key, value)| b.with_config(key, value));
            Ok(Arc::new(builder.with_bucket_name(bucket).build()?))
        }),
        "az" => cloud(prefix, options, AZURE_KEYS, |keys: Keys<AzureConfigKey>| {
            let builder = MicrosoftAzureBuilder::from_env()
                .with_retry(retry())
                .with_client_options(client());
            let builder = keys
                .into_iter()
                .fold(builder, |b, (key, value)| b.with_config(key, value));
            Ok(Arc::new(builder.with_container_name(bucket).build()?))
        }),
        "file" => no_options(options).and_then(|()| folder(url)),
        "memory" => {
            no_options(options).map(|()| (Arc::new(InMemory::new()) as _, Path::default(), None))
        }
        _ => Err(vec![mistake(
            "url",
            format!("there is no store for {scheme:?} URLs"),
            "use s3://, gs://, az://, file: or memory:",
        )]),
    }
}

type Keys<K> = Vec<(K, String)>;

const S3_KEYS: &str = "S3 takes region, endpoint, access_key_id, secret_access_key, session_token, \
    allow_http, virtual_hosted_style_request, unsigned_payload, server_side_encryption, …";
const GCS_KEYS: &str = "Google Cloud Storage takes service_account, service_account_key, application_credentials, base_url, …";
const AZURE_KEYS: &str = "Azure takes account_name, account_key, sas_token, client_id, client_secret, \
    tenant_id, endpoint, …";

fn cloud<K: FromStr>(
    prefix: &str,
    options: &Options,
    known: &str,
    build: impl FnOnce(Keys<K>) -> Result<Arc<dyn ObjectStore>, object_store::Error>,
) -> Result<Opened, Vec<OptionMistake>> {
    let mut mistakes = Vec::new();
    let mut keys = Vec::new();
    for (name, value) in options {
        match name.to_ascii_lowercase().parse::<K>() {
            Ok(key) => keys.push((key, value.expose_secret().to_owned())),
            Err(_) => mistakes.push(mistake(
                format!("options.{name}"),
                "not an option of this store",
                known,
            )),
        }
    }
    let option = |name: &str| options.get(name).map(ExposeSecret::expose_secret);
    if option("endpoint").is_some_and(|url| url.starts_with("http://"))
        && option("allow_http").is_none_or(|allowed| allowed != "true")
    {
        let mend = "use https://, or add allow_http = \"true\"";
        mistakes.push(mistake(
            "options.endpoint",
            "it is an http:// URL, without TLS",
            mend,
        ));
    }
    let path = Path::parse(prefix);
    if path.is_err() {
        mistakes.push(mistake(
            "url",
            "the prefix in the URL cannot be part of an object key",
            "use letters, digits, \"-\", \"_\", \".\" and single slashes",
        ));
    }
    match (path, build(keys)) {
        (Ok(path), Ok(store)) if mistakes.is_empty() => Ok((store, path, None)),
        (_, Err(error)) => {
            mistakes.push(mistake(
                "options",
                without_values(&error.to_string()),
                known,
            ));
            Err(mistakes)
        }
        _ => Err(mistakes),
    }
}

/// An error's words without what stands between quotes: it may be a credential in the wrong place.
fn without_values(text: &str) -> String {
    let parts = text.split('"').enumerate();
    let outside = parts.map(|(at, part)| if at % 2 == 0 { part } else { "…" });
    outside.collect::<Vec<_>>().join("\"")
}

/// A folder; made where it is missing. Files are synced before they count as written, or a power cut
/// could take what has been acknowledged.
fn folder(url: &str) -> Result<Opened, Vec<OptionMistake>> {
    let dir = Url::parse(url).ok().and_then(|url| url.to_file_path().ok());
    let Some(dir) = dir else {
        return Err(vec![mistake(
            "url",
            "not the URL of a folder",
            "write file: and the folder's path",
        )]);
    };
    let opened = std::fs::create_dir_all(&dir)
        .map_err(|error| error.to_string())
        .and_then(|()| LocalFileSystem::new_with_prefix(&dir).map_err(|error| error.to_string()));
    match opened {
        Ok(store) => Ok((Arc::new(store.with_fsync(true)), Path::default(), Some(dir))),
        Err(error) => {
            let mend = "create it, or give callvault's user the right to";
            Err(vec![mistake(
                "url",
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
                format!("options.{name}"),
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

fn mistake(key: impl Into<String>, what: impl Into<String>, mend: &str) -> OptionMistake {
    OptionMistake {
        key: key.into(),
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

fn client() -> ClientOptions {
    let options = ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT);
    roots::beside_the_environments()
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok())
        .fold(options, ClientOptions::with_root_certificate)
}
