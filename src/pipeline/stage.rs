//! One stage of an event: entered, measured and left in one place.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Archivist, Job};
use crate::{flights::Stage, traces::Told};

impl Archivist {
    /// Does what a stage is about: whoever asks meanwhile is told so, and what it took is measured if it came to its end.
    /// Where there are traces, it is a span.
    pub(crate) fn stage<T>(
        &self,
        job: &Job,
        stage: Stage,
        work: impl Future<Output = T>,
    ) -> impl Future<Output = T> {
        self.told_stage(job, stage, work, |_, _| {})
    }

    /// The same, and tells the span what came of it.
    pub(crate) async fn told_stage<T>(
        &self,
        job: &Job,
        stage: Stage,
        work: impl Future<Output = T>,
        tell: impl FnOnce(&T, &mut Told),
    ) -> T {
        let (stage, began) = (Arc::new(stage), Instant::now());
        let _entered = job.flight.enter(&stage);
        let span = job.flight.span().stage(&stage);
        let done = work.await;
        self.metrics.took(&stage, began.elapsed());
        if let Some(span) = span {
            span.end(|told| tell(&done, told));
        }
        done
    }
}
