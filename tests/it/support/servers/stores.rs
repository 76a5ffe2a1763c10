//! The stores that `tests/run --all-stores` installs, shared by the tests that it runs with them.

use tokio::sync::OnceCell;

use super::{Shared, target};

/// Azure's blobs. A blob is `{url}/{CONTAINER}/{name}?{SIGNATURE}`.
pub(crate) struct Azurite {
    /// `http://127.0.0.1:PORT/devstoreaccount1`.
    pub(crate) url: &'static str,
}

impl Azurite {
    /// Azurite's account and its key, which everybody knows.
    pub(crate) const ACCOUNT: &str = "devstoreaccount1";
    pub(crate) const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    /// Signed with that key: all that there is to do with blobs, until 2099.
    pub(crate) const SIGNATURE: &str = "sv=2021-08-06&ss=b&srt=sco&sp=rwdlc&se=2099-01-01T00%3A00%3A00Z\
        &sig=QasnztzZZ0YhpTIK8Qxshc1teEr7mrIN%2Bb80giC8nHs%3D";
    /// Is there.
    pub(crate) const CONTAINER: &str = "callvault-it";
}

/// Google Cloud Storage, of which fake-gcs-server has the JSON interface: conditions (`ifGenerationMatch`)
/// count for uploads of the type `multipart` alone, and there is no `PUT` of an object.
pub(crate) struct Gcs {
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: &'static str,
}

impl Gcs {
    /// Is there.
    pub(crate) const BUCKET: &str = "callvault-it";
}

/// The shared Azurite.
pub(crate) async fn azurite() -> Azurite {
    Azurite {
        url: stores().await.url("azurite"),
    }
}

/// The shared fake-gcs-server.
pub(crate) async fn gcs() -> Gcs {
    Gcs {
        url: stores().await.url("fake-gcs"),
    }
}

async fn stores() -> &'static Shared {
    static STORES: OnceCell<Shared> = OnceCell::const_new();
    STORES
        .get_or_init(async || {
            let stores = Shared::join(target().join("it-stores"), &["azurite", "fake-gcs"]).await;
            create(&stores).await;
            stores
        })
        .await
}

/// The container and the bucket; another test may have been first.
async fn create(stores: &Shared) {
    let client = crate::support::http_client();
    let container = client.put(format!(
        "{}/{}?restype=container&{}",
        stores.url("azurite"),
        Azurite::CONTAINER,
        Azurite::SIGNATURE
    ));
    let bucket = client
        .post(format!(
            "{}/storage/v1/b?project=any",
            stores.url("fake-gcs")
        ))
        .header("content-type", "application/json")
        .body(format!(r#"{{"name": "{}"}}"#, Gcs::BUCKET));
    for request in [container, bucket] {
        let answer = request.send().await.unwrap();
        let status = answer.status();
        assert!(
            status.is_success() || status == reqwest::StatusCode::CONFLICT,
            "{}: {status}: {}",
            answer.url().clone(),
            answer.text().await.unwrap()
        );
    }
}
