//! One stage of an event: entered, measured and left in one place.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Archivist, Job};
use crate::flights::Stage;

impl Archivist {
    /// Does what a stage is about: whoever asks meanwhile is told so, and what it took is measured if it came to its end.
    pub(crate) async fn stage<T>(
        &self,
        job: &Job,
        stage: Stage,
        work: impl Future<Output = T>,
    ) -> T {
        let (stage, began) = (Arc::new(stage), Instant::now());
        let _entered = job.flight.enter(&stage);
        let done = work.await;
        self.metrics.took(&stage, began.elapsed());
        done
    }
}
