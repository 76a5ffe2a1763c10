//! Does each bucket keep what callvault promises?

use std::path::{Path, PathBuf};

use futures_util::future::join_all;

use super::Finding;
use crate::{
    store::{Bucket, Promise, Stores},
    telemetry,
};

/// Tries every bucket, by an object of its own; but folders that are `missing`, which only who archives is to make.
pub async fn buckets(stores: &Stores, missing: &[(String, PathBuf)]) -> Vec<Finding> {
    let mut buckets: Vec<_> = stores.iter().collect();
    buckets.sort_by_key(|bucket| bucket.name().to_owned());
    let found = buckets.into_iter().map(async |bucket| {
        match missing.iter().find(|(name, _)| name == bucket.name()) {
            Some((name, folder)) => vec![not_there(name, folder)],
            None => bucket_of(bucket).await,
        }
    });
    join_all(found).await.into_iter().flatten().collect()
}

/// Before the first start that is as it should be; later a disk is gone.
fn not_there(bucket: &str, folder: &Path) -> Finding {
    let folder = folder.display();
    Finding::ok(
        "bucket",
        format!(
            "{bucket}: its folder {folder} is not there: `run` and `archive` make it; if a disk is to be mounted there, \
             mount it first"
        ),
    )
}

async fn bucket_of(bucket: &Bucket) -> Vec<Finding> {
    let name = bucket.name();
    let probed = match bucket.reach().await {
        Ok(()) => bucket.probe().await,
        Err(error) => Err(error),
    };
    let found = match probed {
        Ok(found) => found,
        Err(error) => {
            let (detail, mend) = (telemetry::chain(&error), bucket.remedy(&error));
            return vec![Finding::unreachable("bucket", detail, mend)];
        }
    };
    let mut findings = vec![Finding::ok("bucket", name)];
    findings.extend(found.into_iter().map(|found| {
        let detail = format!("{name}: {}", found.what);
        match found.promise {
            Promise::Kept => Finding::ok("promise", detail),
            Promise::Weaker => Finding::weak("promise", detail, found.mend),
            Promise::Broken => Finding::fail("promise", detail, found.mend),
        }
    }));
    findings
}
