//! The clouds: what each one's client goes by, and how it is built.

use std::{str::FromStr, sync::Arc};

use object_store::{
    ClientConfigKey, ClientOptions, ObjectStore, Result, RetryConfig, StaticCredentialProvider,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
};

use super::{Opened, Sends, judge::Rule};
use crate::store::{
    clients::{Clients, Connector},
    crypto::Crypto,
    uploads::Uploads,
};

/// The builder of a cloud's client.
pub(super) trait Cloud: Sized {
    /// An option's name, parsed.
    type Key: FromStr + Copy + PartialEq;
    /// The most useful options, for a message.
    const KNOWN: &'static str;
    /// What the names of the variables begin with that the client reads as options.
    const VARIABLES: &'static str;
    /// Variables that it reads beside them.
    const MORE_VARIABLES: &'static [(&'static str, Rule)];

    fn from_env() -> Self;
    fn with_retry(self, retry: RetryConfig) -> Self;
    fn with_client_options(self, options: ClientOptions) -> Self;
    fn with(self, key: Self::Key, value: impl Into<String>) -> Self;
    fn get(&self, key: &Self::Key) -> Option<String>;
    /// Whether an option is about connections, and the same for every cloud.
    fn is_clients(key: &Self::Key) -> bool;
    /// What the value of an option has to be.
    fn rule(key: &Self::Key) -> Rule;
    /// Builds the client; no request is made. `said` are the options that somebody set.
    fn finish(self, bucket: &str, said: &[Self::Key], clients: &Clients) -> Result<Opened>;
}

/// What the stores' builders take for true.
pub(super) const TRUE: &[&str] = &["1", "true", "on", "yes", "y"];
const GOOGLE: &str = "https://storage.googleapis.com";

/// Passes on what each builder has of its own.
macro_rules! as_built {
    ($key:ident) => {
        type Key = $key;

        fn from_env() -> Self {
            Self::from_env()
        }

        fn with_retry(self, retry: RetryConfig) -> Self {
            self.with_retry(retry)
        }

        fn with_client_options(self, options: ClientOptions) -> Self {
            self.with_client_options(options)
        }

        fn with(self, key: Self::Key, value: impl Into<String>) -> Self {
            self.with_config(key, value)
        }

        fn get(&self, key: &Self::Key) -> Option<String> {
            self.get_config_value(key)
        }

        fn is_clients(key: &Self::Key) -> bool {
            matches!(key, $key::Client(_))
        }
    };
}

impl Cloud for AmazonS3Builder {
    as_built!(AmazonS3ConfigKey);

    const KNOWN: &'static str = "S3 takes region, endpoint, access_key_id, secret_access_key, session_token, \
        allow_http, virtual_hosted_style_request, unsigned_payload, server_side_encryption, …";
    const VARIABLES: &'static str = "AWS_";
    const MORE_VARIABLES: &'static [(&'static str, Rule)] = &[];

    fn rule(key: &AmazonS3ConfigKey) -> Rule {
        use AmazonS3ConfigKey as Key;
        match key {
            Key::Endpoint | Key::S3Endpoint | Key::StsEndpoint | Key::MetadataEndpoint => {
                Rule::Base
            }
            Key::ContainerCredentialsFullUri => Rule::Url,
            Key::ContainerCredentialsRelativeUri => Rule::Path,
            Key::Region | Key::DefaultRegion => Rule::Name,
            Key::Client(key) => client_rule(*key),
            _ => Rule::Text,
        }
    }

    fn finish(mut self, bucket: &str, said: &[Self::Key], clients: &Clients) -> Result<Opened> {
        use AmazonS3ConfigKey as Key;
        let client = Connector::new(clients);
        let value = |key| self.get_config_value(&key).unwrap_or_default();
        let says =
            |key, words: &[&str]| words.contains(&value(key).trim().to_ascii_lowercase().as_str());
        let conditional = !says(Key::ConditionalPut, &["disabled"]);
        let unsigned = says(Key::SkipSignature, TRUE);
        let unsigned_payload = says(Key::UnsignedPayload, TRUE);
        let anybody = says(Key::Client(ClientConfigKey::AllowInvalidCertificates), TRUE);
        let proven = !anybody
            && [Key::Endpoint, Key::S3Endpoint]
                .map(value)
                .iter()
                .all(|url| is_tls(url));
        // Of a whole body the digest is known, and signed. A part would have to be hashed for it, and TLS keeps it as well,
        // where it proves who the store is.
        let parts_unsigned = proven && !said.contains(&Key::UnsignedPayload);
        let sha256 = says(Key::Checksum, &["sha256"]);
        let other_checksum = !sha256 && !says(Key::Checksum, &[""]);
        if unsigned {
            // Never sent: with them, the URL of a request can be had that is not to be signed.
            self = self.with_credentials(Arc::new(StaticCredentialProvider::new(AwsCredential {
                key_id: "nobody".into(),
                secret_key: String::new(),
                token: None,
            })));
        }
        let builder = self
            .with_crypto_provider(Arc::new(Crypto))
            .with_http_connector(client.clone())
            .with_bucket_name(bucket);
        let store = builder.clone().build()?;
        let parts = if parts_unsigned {
            let credentials = Arc::clone(store.credentials());
            let builder = builder.with_unsigned_payload(true);
            builder.with_credentials(credentials).build()?
        } else {
            store.clone()
        };
        let uploads = Uploads::S3 {
            store: store.clone(),
            client,
            unsigned,
        };
        let signed = sha256 || !(unsigned || unsigned_payload || parts_unsigned);
        let sends = if other_checksum {
            Sends::Bytes
        } else {
            Sends::Streams {
                parts: Arc::new(parts),
                signed,
            }
        };
        Ok(Opened {
            conditional,
            ..Opened::new(Arc::new(store), uploads, sends)
        })
    }
}

impl Cloud for GoogleCloudStorageBuilder {
    as_built!(GoogleConfigKey);

    const KNOWN: &'static str = "Google Cloud Storage takes service_account, service_account_key, application_credentials, base_url, …";
    const VARIABLES: &'static str = "GOOGLE_";
    const MORE_VARIABLES: &'static [(&'static str, Rule)] = &[
        ("SERVICE_ACCOUNT", Rule::File),
        ("GCE_METADATA_HOST", Rule::Host),
        ("GCE_METADATA_ROOT", Rule::Host),
        ("GCE_METADATA_IP", Rule::Host),
    ];

    fn rule(key: &GoogleConfigKey) -> Rule {
        use GoogleConfigKey as Key;
        match key {
            Key::BaseUrl => Rule::Base,
            Key::ServiceAccount | Key::ApplicationCredentials => Rule::File,
            Key::ServiceAccountKey => Rule::Lines,
            Key::Client(key) => client_rule(*key),
            _ => Rule::Text,
        }
    }

    fn finish(self, bucket: &str, _: &[Self::Key], clients: &Clients) -> Result<Opened> {
        let client = Connector::new(clients);
        let says = |key| self.get_config_value(&key).unwrap_or_default();
        let unsigned = says(GoogleConfigKey::SkipSignature);
        let unsigned = TRUE.contains(&unsigned.trim().to_ascii_lowercase().as_str());
        let base = match says(GoogleConfigKey::BaseUrl) {
            base if base.is_empty() => GOOGLE.to_owned(),
            base => base,
        };
        let store = self
            .with_http_connector(client.clone())
            .with_bucket_name(bucket)
            .build()?;
        let uploads = Uploads::Google {
            store: store.clone(),
            client,
            bucket: format!("{}/{bucket}", base.trim_end_matches('/')),
            unsigned,
        };
        Ok(streamed(store, uploads))
    }
}

impl Cloud for MicrosoftAzureBuilder {
    as_built!(AzureConfigKey);

    const KNOWN: &'static str = "Azure takes account_name, account_key, sas_token, client_id, client_secret, \
        tenant_id, endpoint, …";
    const VARIABLES: &'static str = "AZURE_";
    const MORE_VARIABLES: &'static [(&'static str, Rule)] = &[
        ("IDENTITY_ENDPOINT", Rule::Url),
        ("IDENTITY_HEADER", Rule::Text),
        ("AZURITE_BLOB_STORAGE_URL", Rule::Base),
    ];

    fn rule(key: &AzureConfigKey) -> Rule {
        use AzureConfigKey as Key;
        match key {
            Key::Endpoint | Key::AuthorityHost => Rule::Base,
            Key::MsiEndpoint | Key::FabricTokenServiceUrl => Rule::Url,
            Key::AccountName | Key::AuthorityId => Rule::Name,
            Key::Client(key) => client_rule(*key),
            _ => Rule::Text,
        }
    }

    fn finish(self, container: &str, _: &[Self::Key], clients: &Clients) -> Result<Opened> {
        let store = self
            .with_http_connector(Connector::new(clients))
            .with_container_name(container)
            .build()?;
        Ok(streamed(store, Uploads::Azure))
    }
}

/// Of a store whose client signs no digest of what it sends.
fn streamed(store: impl ObjectStore, uploads: Uploads) -> Opened {
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    let sends = Sends::Streams {
        parts: Arc::clone(&store),
        signed: false,
    };
    Opened::new(store, uploads, sends)
}

fn client_rule(key: ClientConfigKey) -> Rule {
    match key {
        ClientConfigKey::ProxyUrl => Rule::Proxy,
        ClientConfigKey::ProxyCaCertificate => Rule::Lines,
        _ => Rule::Text,
    }
}

/// Whether requests go out over TLS, by an endpoint: none is the cloud's own.
fn is_tls(endpoint: &str) -> bool {
    !endpoint.trim().to_ascii_lowercase().starts_with("http://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_go_unsigned_only_where_tls_proves_who_the_store_is() {
        use AmazonS3ConfigKey as Key;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let anybody = Key::Client(ClientConfigKey::AllowInvalidCertificates);
        for (options, said, signed) in [
            (vec![], vec![], false),
            (vec![(Key::Endpoint, "https://store")], vec![], false),
            (
                vec![(Key::Endpoint, "https://store")],
                vec![Key::UnsignedPayload],
                true,
            ),
            (
                vec![(Key::Endpoint, "https://store"), (anybody, "true")],
                vec![],
                true,
            ),
            (vec![(Key::Endpoint, "HTTP://store")], vec![], true),
        ] {
            let case = format!("{options:?} {said:?}");
            let builder = AmazonS3Builder::new()
                .with_access_key_id("id")
                .with_secret_access_key("key");
            let builder = options
                .into_iter()
                .fold(builder, |builder, (key, value)| builder.with(key, value));
            let opened = builder.finish("bucket", &said, &Clients::default());
            let Sends::Streams { signed: is, .. } = opened.unwrap().sends else {
                panic!("{case}: no stream");
            };
            assert_eq!(is, signed, "{case}");
        }
    }
}
