//! What the tests of a store's parts share.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    body::{Body, Budget},
    config::Limits,
};

/// A body; in a file where it is larger than what stays in memory.
pub(super) async fn body_of(bytes: &[u8]) -> Body {
    let budget = Budget::new(&Limits {
        memory: 64 << 20,
        spool: 256 << 20,
        spool_dir: std::env::temp_dir(),
        job_time: Duration::from_mins(1),
    });
    let size = bytes.len() as u64;
    let mut writer = budget.writer(Some(size), size, None).await.unwrap();
    writer.write(Bytes::copy_from_slice(bytes)).await.unwrap();
    writer.finish().await.unwrap()
}
