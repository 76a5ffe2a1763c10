//! The story of one event: parse, fetch, check, store, and last the manifest. Read this first.

mod about;
mod commit;
mod job;
mod judge;
mod keep;
mod order;
mod stage;
#[cfg(test)]
mod tests;
mod turns;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use chrono::{TimeDelta, Utc};
use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::timeout_at;

use self::judge::aside;
pub use self::{
    job::{End, Fault, Job, Missing, Outcome},
    order::due_of,
    turns::Turns,
};
use crate::{
    attachment::{Planner, manifest_key},
    body::Budget,
    event::{CallAnalyzed, Event, EventError},
    fetch::Fetcher,
    flights::Stage,
    manifest::{Entry, Worker},
    metrics::Metrics,
    outage::Outage,
    store::{Bucket, Stores},
};

/// Attachments of one event that are under way at once.
const SIDE_BY_SIDE: usize = 8;

/// An event about a call that changed so lately is taken to be here for the first time, and pays no
/// request to find out. Nothing but a download hangs on it: whoever is second finds what is stored.
const NEW: TimeDelta = TimeDelta::minutes(15);

/// Turns events into archives. One serves all jobs of a process.
#[derive(Debug)]
pub struct Archivist {
    /// Where each attachment goes.
    pub planner: Planner,
    /// Where attachments come from.
    pub fetcher: Fetcher,
    /// Where they are kept.
    pub stores: Stores,
    /// What all jobs may use together.
    pub budget: Budget,
    /// How the spool folder is doing.
    pub spool: Outage,
    /// The bucket of the manifests.
    pub manifests: Arc<Bucket>,
    /// Whether a manifest repeats the event.
    pub include_event: bool,
    /// Who writes the manifests.
    pub worker: Worker,
    /// Whose turn it is.
    pub turns: Turns,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Why a job stops before its end.
#[derive(Debug)]
enum Stop {
    Duplicate,
    Taken,
    Fault(Fault),
}

impl<E: Into<Fault>> From<E> for Stop {
    fn from(fault: E) -> Self {
        Self::Fault(fault.into())
    }
}

/// An attachment's record, and why it could not be had where it could not.
type Kept = (Entry, Option<Missing>);

impl Archivist {
    /// Archives one event. A panic is the end of this job alone.
    pub async fn archive(&self, job: &Job) -> Outcome {
        let end = Outcome::without_ids;
        let share = timeout_at(job.deadline(), self.budget.event(job.body.len()));
        let _share = match self.stage(job, Stage::Memory, share).await {
            Ok(Ok(share)) => share,
            Ok(Err(closed)) => return end(End::NotOurs(closed.into())),
            Err(_) => return end(End::NotOurs(Fault::Late)),
        };
        // Nothing that a panic may have left half done is looked at again, here and below.
        let parse = AssertUnwindSafe(|| Event::parse(&job.body));
        let parsed = async { aside(job.body.len(), || catch_unwind(parse)) };
        let call = match self.stage(job, Stage::Parsing, parsed).await {
            Ok(Ok(Event::Analyzed(call))) => call,
            Ok(Ok(Event::Other(event))) => return end(End::Ignored { event }),
            Ok(Err(error)) => return end(End::Invalid(error)),
            Err(_) => return end(End::Panicked),
        };
        job.flight
            .is(call.call_id.as_str(), call.request_id.as_str());
        let span = tracing::Span::current();
        span.record("call_id", call.call_id.as_str());
        span.record("request_id", call.request_id.as_str());
        let archived = AssertUnwindSafe(self.archive_call(&call, job)).catch_unwind();
        let (end, entries) = match archived.await {
            Ok(Ok(done)) => done,
            Ok(Err(Stop::Duplicate)) => (End::Duplicate, Vec::new()),
            Ok(Err(Stop::Taken)) => (End::Invalid(EventError::Taken), Vec::new()),
            Ok(Err(Stop::Fault(fault))) => (End::NotOurs(fault), Vec::new()),
            Err(_) => (End::Panicked, Vec::new()),
        };
        Outcome {
            ids: Some((call.call_id.clone(), call.request_id.clone())),
            end,
            entries,
        }
    }

    async fn archive_call(
        &self,
        call: &CallAnalyzed,
        job: &Job,
    ) -> Result<(End, Vec<Entry>), Stop> {
        let turn = timeout_at(job.deadline(), self.turns.of(manifest_key(call)));
        let turn = self.stage(job, Stage::Behind, turn).await;
        let turn = turn.map_err(|_| Fault::Contended {
            key: manifest_key(call),
        })?;
        let seen_before = job.seen_before || turn.seen_before;
        let known = if seen_before || !call.changed_within(NEW, Utc::now()) {
            self.known(call, job).await?
        } else {
            None
        };
        if job.is_late() {
            return Err(Fault::Late.into());
        }
        let (planned, order) = aside(job.body.len(), || {
            let planned = self.planner.plan(call);
            let order = order::begin(&planned, Utc::now());
            (planned, order)
        });
        let keeping = order.into_iter().map(async |at| {
            let planned = &planned[at];
            let stored = known.as_ref().and_then(|known| known.stored(at, planned));
            if let Some(entry) = stored {
                return (at, Ok((entry, None)));
            }
            let kept = self.keep(call, planned, job).await;
            if let Ok((entry, _)) = &kept {
                self.metrics.attachment(entry);
            }
            (at, kept)
        });
        // All of them end before the first fault counts: what was fetched is stored, if it can be. None waits
        // for one before it: eight are under way as long as there are eight.
        let kept = stream::iter(keeping).buffer_unordered(SIDE_BY_SIDE);
        let mut kept: Vec<(usize, Result<Kept, Stop>)> = kept.collect().await;
        kept.sort_unstable_by_key(|(at, _)| *at);
        let kept = kept.into_iter().map(|(_, kept)| kept);
        let kept: Vec<Kept> = kept.collect::<Result<_, _>>()?;
        let (entries, missing): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
        let missing: Vec<Missing> = missing.into_iter().flatten().collect();
        if let Some(fault) = job::crowded_out(&missing) {
            return Err(fault.into());
        }
        // Who came second under an event's ids does not take the manifest from the first, who is at work.
        let second = missing.iter().any(Missing::is_for_another);
        if !second || self.known(call, job).await?.is_some() {
            self.commit(call, &entries, job).await?;
        }
        let end = if missing.is_empty() {
            End::Archived
        } else {
            End::Partial(missing)
        };
        Ok((end, entries))
    }
}
