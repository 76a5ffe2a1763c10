//! nginx's access log: how many requests there were.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::tail::Tail;

/// More than nginx keeps lines back.
const QUIET: Duration = Duration::from_millis(1200);

/// The requests since this was asked last.
pub(crate) struct Access(Tail);

/// So many.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Requests {
    /// With what asks otherwise.
    pub(crate) gets: usize,
    pub(crate) puts: usize,
}

impl Access {
    /// Of an nginx in this folder.
    pub(crate) fn of(nginx: &Path) -> Self {
        Self(Tail::of(&nginx.join("log/access.log")))
    }

    /// Waits until the log is at rest.
    pub(crate) async fn count(&mut self) -> Result<Requests> {
        let (mut requests, mut last) = (Requests::default(), Instant::now());
        while last.elapsed() < QUIET {
            for line in self.0.lines()? {
                last = Instant::now();
                if line.starts_with("PUT ") {
                    requests.puts += 1;
                } else {
                    requests.gets += 1;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(requests)
    }
}
