//! A bucket's URL and options → its client.
//!
//! The stores' own builders drop option keys that they do not know; here each one is a mistake, for a
//! misspelt region or endpoint would otherwise write recordings somewhere else.

use std::{collections::BTreeMap, str::FromStr, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    local::LocalFileSystem,
    memory::InMemory,
    path::Path,
};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    OptionMistake,
    uploads::{Client, Uploads},
};
use crate::roots;

type Options = BTreeMap<String, SecretString>;

/// A bucket's client, and what is known of its store.
pub(super) struct Opened {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) prefix: Path,
    pub(super) uploads: Uploads,
    /// Whether writes are to be conditional.
    pub(super) conditional: bool,
}

impl Opened {
    fn new(store: Arc<dyn ObjectStore>, uploads: Uploads) -> Self {
        Self {
            store,
            uploads,
            prefix: Path::default(),
            conditional: true,
        }
    }
}

/// The longest that one request may take, 16 MiB of body over a slow line included.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn open(url: &str, options: &Options) -> Result<Opened, Vec<OptionMistake>> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    match scheme {
        "s3" => cloud(prefix, options, S3_KEYS, |keys| s3(bucket, keys)),
        "gs" => cloud(prefix, options, GCS_KEYS, |keys| google(bucket, keys)),
        "az" => cloud(prefix, options, AZURE_KEYS, |keys| azure(bucket, keys)),
        "file" => no_options(options).and_then(|()| folder(url)),
        "memory" => {
            no_options(options).map(|()| Opened::new(Arc::new(InMemory::new()), Uploads::InMemory))
        }
        _ => Err(vec![mistake(
            "url",
            format!("there is no store for {scheme:?} URLs"),
            "use s3://, gs://, az://, file: or memory:",
        )]),
    }
}

fn s3(bucket: &str, keys: Keys<AmazonS3ConfigKey>) -> Result<Opened, object_store::Error> {
    let client = Client::default();
    let builder = AmazonS3Builder::from_env()
        .with_retry(retry())
        .with_client_options(client_options())
        .with_http_connector(client.clone());
    let mut builder = keys
        .into_iter()
        .fold(builder, |b, (key, value)| b.with_config(key, value));
    let says = |key, words: &[&str]| {
        let value = builder.get_config_value(&key).unwrap_or_default();
        words.contains(&value.trim().to_ascii_lowercase().as_str())
    };
    for key in [
        AmazonS3ConfigKey::AccessKeyId,
        AmazonS3ConfigKey::SecretAccessKey,
        AmazonS3ConfigKey::Token,
        AmazonS3ConfigKey::Region,
    ] {
        fits_a_header(&key, builder.get_config_value(&key))?;
    }
    let conditional = !says(AmazonS3ConfigKey::ConditionalPut, &["disabled"]);
    let unsigned = says(AmazonS3ConfigKey::SkipSignature, TRUE);
    if unsigned {
        // Never sent: with them, the URL of a request can be had that is not to be signed.
        builder =
            builder.with_credentials(Arc::new(StaticCredentialProvider::new(AwsCredential {
                key_id: "nobody".into(),
                secret_key: String::new(),
                token: None,
            })));
    }
    let store = builder.with_bucket_name(bucket).build()?;
    let uploads = Uploads::S3 {
        store: store.clone(),
        client,
        unsigned,
    };
    Ok(Opened {
        conditional,
        ..Opened::new(Arc::new(store), uploads)
    })
}

fn google(bucket: &str, keys: Keys<GoogleConfigKey>) -> Result<Opened, object_store::Error> {
    let client = Client::default();
    let builder = GoogleCloudStorageBuilder::from_env()
        .with_retry(retry())
        .with_client_options(client_options())
        .with_http_connector(client.clone());
    let builder = keys
        .into_iter()
        .fold(builder, |b, (key, value)| b.with_config(key, value));
    let says = |key| builder.get_config_value(&key).unwrap_or_default();
    let unsigned = TRUE.contains(
        &says(GoogleConfigKey::SkipSignature)
            .trim()
            .to_ascii_lowercase()
            .as_str(),
    );
    let base = match says(GoogleConfigKey::BaseUrl) {
        base if base.is_empty() => GOOGLE.to_owned(),
        base => base,
    };
    let store = builder.with_bucket_name(bucket).build()?;
    let uploads = Uploads::Google {
        store: store.clone(),
        client,
        bucket: format!("{}/{bucket}", base.trim_end_matches('/')),
        unsigned,
    };
    Ok(Opened::new(Arc::new(store), uploads))
}

fn azure(container: &str, keys: Keys<AzureConfigKey>) -> Result<Opened, object_store::Error> {
    let builder = MicrosoftAzureBuilder::from_env()
        .with_retry(retry())
        .with_client_options(client_options());
    let builder = keys
        .into_iter()
        .fold(builder, |b, (key, value)| b.with_config(key, value));
    for key in [AzureConfigKey::AccountName, AzureConfigKey::Token] {
        fits_a_header(&key, builder.get_config_value(&key))?;
    }
    let store = builder.with_container_name(container).build()?;
    Ok(Opened::new(Arc::new(store), Uploads::Azure))
}

/// The stores' clients take a value to be fit for a header and panic where it is not: a secret read from a
/// file often ends with the file's last newline.
fn fits_a_header<K: AsRef<str>>(key: &K, value: Option<String>) -> Result<(), object_store::Error> {
    if value.is_some_and(|value| value.chars().any(char::is_control)) {
        let key = key.as_ref();
        return Err(object_store::Error::Generic {
            store: "configuration",
            source: format!("{key} has a control character in it, often a newline at its end")
                .into(),
        });
    }
    Ok(())
}

type Keys<K> = Vec<(K, String)>;

/// What the stores' builders take for true.
const TRUE: &[&str] = &["1", "true", "on", "yes", "y"];
const GOOGLE: &str = "https://storage.googleapis.com";

const S3_KEYS: &str = "S3 takes region, endpoint, access_key_id, secret_access_key, session_token, \
    allow_http, virtual_hosted_style_request, unsigned_payload, server_side_encryption, …";
const GCS_KEYS: &str = "Google Cloud Storage takes service_account, service_account_key, application_credentials, base_url, …";
const AZURE_KEYS: &str = "Azure takes account_name, account_key, sas_token, client_id, client_secret, \
    tenant_id, endpoint, …";

fn cloud<K: FromStr>(
    prefix: &str,
    options: &Options,
    known: &str,
    build: impl FnOnce(Keys<K>) -> Result<Opened, object_store::Error>,
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
    // It would stand in the HTTP client's own log. Proxies alone may ask for it.
    let has_user = |url: &Url| !url.username().is_empty() || url.password().is_some();
    for (name, value) in options {
        let url = Url::parse(value.expose_secret());
        if url.is_ok_and(|url| has_user(&url)) && !name.contains("proxy") {
            let mend = "leave them out: requests are signed with the store's own keys";
            mistakes.push(mistake(
                format!("options.{name}"),
                "credentials in the URL",
                mend,
            ));
        }
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
        (Ok(prefix), Ok(opened)) if mistakes.is_empty() => Ok(Opened { prefix, ..opened }),
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
        Ok(store) => Ok(Opened::new(
            Arc::new(store.with_fsync(true)),
            Uploads::Folder(dir),
        )),
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

fn client_options() -> ClientOptions {
    let options = ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT);
    roots::beside_the_environments()
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok())
        .fold(options, ClientOptions::with_root_certificate)
}
