//! What one job's misfortune means for the others. (The pipeline's own story is told in `tests/it`.)

mod sharing;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::Utc;
use futures_util::{
    StreamExt,
    future::join_all,
    stream::{self, BoxStream},
};
use object_store::{
    Attributes, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    path::Path,
};
use tokio::time::Instant;

use super::{Archivist, End, Job, Turns};
use crate::{
    attachment::{KeyTemplate, Planner, Tenants},
    body::Budget,
    config,
    event::EventError,
    fetch::Fetcher,
    flights::Flight,
    manifest::Worker,
    metrics::Metrics,
    outage::Outage,
    store::{Bucket, Clients, Stores},
};

/// A store that panics over keys that hold "broken", as a library might; over those that hold "bug" callvault
/// itself does.
#[derive(Debug)]
struct Buggy(Arc<dyn ObjectStore>);

/// A manifest's bytes. The pipeline drops them once it has read them, long after the store's call.
struct Bug;

impl AsRef<[u8]> for Bug {
    fn as_ref(&self) -> &[u8] {
        b"{}"
    }
}

impl Drop for Bug {
    fn drop(&mut self) {
        panic!("the bug of this test");
    }
}

impl fmt::Display for Buggy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Buggy {
    async fn put_opts(&self, to: &Path, body: PutPayload, how: PutOptions) -> Result<PutResult> {
        assert!(!to.as_ref().contains("broken"), "the store's own bug");
        self.0.put_opts(to, body, how).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(to, how).await
    }

    async fn get_opts(&self, from: &Path, how: GetOptions) -> Result<GetResult> {
        if !from.as_ref().contains("bug") {
            return self.0.get_opts(from, how).await;
        }
        let (text, key) = (Bytes::from_owner(Bug), from.clone());
        Ok(GetResult {
            range: 0..2,
            payload: GetResultPayload::Stream(stream::once(async { Ok(text) }).boxed()),
            meta: ObjectMeta {
                location: key,
                last_modified: Utc::now(),
                size: 2,
                e_tag: None,
                version: None,
            },
            attributes: Attributes::default(),
            extensions: how.extensions,
        })
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(keys)
    }

    fn list(&self, below: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(below)
    }

    async fn list_with_delimiter(&self, below: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(below).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, how).await
    }
}

fn archivist() -> Archivist {
    // Fails when another test of this process was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = config::Bucket {
        name: "documents".into(),
        url: "memory:".into(),
        options: BTreeMap::new(),
    };
    let bucket = Bucket::open(&settings, &Clients::default()).unwrap();
    let stores = Stores::new([bucket.with_store(|store| Arc::new(Buggy(store)))]);
    let fetch = config::Fetch {
        allowed_hosts: Vec::new(),
        allow_http: false,
        allow_private_addresses: false,
        connect_timeout: Duration::from_secs(1),
        read_timeout: Duration::from_secs(1),
        max_redirects: 0,
        refusals: 1,
    };
    let limits = config::Limits {
        memory: 1 << 20,
        spool: 1 << 20,
        spool_dir: std::env::temp_dir(),
        job_time: Duration::from_mins(1),
    };
    let template = KeyTemplate::parse("{date}/{call_id}/{request_id}/{file}").unwrap();
    let planner = Planner::new(
        Vec::new(),
        template,
        "documents",
        "documents",
        Tenants::new(),
    );
    Archivist {
        planner,
        fetcher: Fetcher::new(&fetch, 4).unwrap(),
        manifests: Arc::clone(stores.get("documents").unwrap()),
        stores,
        budget: Budget::new(&limits),
        spool: Outage::of("the spool folder"),
        include_event: false,
        worker: Worker::this(),
        turns: Turns::default(),
        metrics: Arc::new(Metrics::new([], []).unwrap()),
    }
}

fn job(request_id: &str) -> Job {
    listing(request_id, "")
}

fn listing(request_id: &str, attachments: &str) -> Job {
    let body = format!(
        r#"{{"event": "call.analyzed", "request_id": "{request_id}", "data":
            {{"id": "c", "created_at": "2026-01-01T00:00:00Z", "attachments": [{attachments}]}}}}"#
    );
    Job {
        body: Bytes::from(body),
        attempt: 1,
        seen_before: false,
        started: Instant::now(),
        time: Duration::from_mins(1),
        patience: Duration::from_mins(1),
        flight: Flight::default(),
    }
}

#[tokio::test]
async fn a_panic_is_the_end_of_one_job_alone() {
    let archivist = archivist();
    let jobs = ["a", "bug", "b", "bug", "c"].map(|id| Job {
        seen_before: true,
        ..job(id)
    });
    let ends = join_all(jobs.iter().map(|job| archivist.archive(job))).await;
    for (at, outcome) in ends.iter().enumerate() {
        match &outcome.end {
            // The second of its kind waited for the first, and is not held up for ever.
            End::Panicked => assert!(matches!(at, 1 | 3), "{at}"),
            End::Archived => assert!(matches!(at, 0 | 2 | 4), "{at}"),
            end => panic!("{at}: {end:?}"),
        }
    }
}

#[tokio::test]
async fn a_panic_of_a_store_is_the_stores_own_failure() {
    let archivist = archivist();
    let then = Instant::now();
    let jobs = ["a", "broken"].map(|id| Job {
        patience: Duration::ZERO,
        ..job(id)
    });
    let ends = join_all(jobs.iter().map(|job| archivist.archive(job))).await;
    assert!(matches!(ends[0].end, End::Archived), "{:?}", ends[0]);
    assert!(matches!(ends[1].end, End::NotOurs(_)), "{:?}", ends[1]);
    let outage = archivist.manifests.outage();
    assert!(outage.down_since(then) > Duration::ZERO, "it has begun");
    let end = archivist.archive(&job("b")).await.end;
    assert!(matches!(end, End::Archived), "{end:?}");
    let downtime = outage.down_since(then);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(outage.down_since(then), downtime, "it has ended");
}

#[tokio::test]
async fn of_two_events_with_the_same_ids_at_once_the_second_is_told_from_the_first() {
    let archivist = archivist();
    // Its host is not allowed: nothing is connected to.
    let jobs = [job("a"), listing("a", r#"{"url": "https://h/x.wav"}"#)];
    let ends = join_all(jobs.iter().map(|job| archivist.archive(job))).await;
    assert!(matches!(ends[0].end, End::Archived), "{:?}", ends[0]);
    let taken = matches!(ends[1].end, End::Invalid(EventError::Taken));
    assert!(taken, "{:?}", ends[1]);
}
