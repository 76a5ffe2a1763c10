//! The story of one event: parse, fetch, check, store, and last the manifest. Read this first.

mod about;
mod commit;
mod job;
mod keep;

use std::sync::Arc;

use futures_util::{StreamExt, stream};

pub use self::job::{End, Fault, Job, Outcome};
use crate::{
    attachment::Planner,
    body::Budget,
    event::{CallAnalyzed, Event},
    fetch::{FetchError, Fetcher},
    manifest::{Entry, Worker},
    outage::Outage,
    store::{Bucket, Stores},
};

/// Attachments of one event that are under way at once.
const SIDE_BY_SIDE: usize = 8;

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
}

/// Why a job stops before its end.
#[derive(Debug)]
enum Stop {
    Duplicate,
    Fault(Fault),
}

impl<E: Into<Fault>> From<E> for Stop {
    fn from(fault: E) -> Self {
        Self::Fault(fault.into())
    }
}

/// An attachment's record, and why it could not be had where it could not.
type Kept = (Entry, Option<FetchError>);

impl Archivist {
    /// Archives one event.
    pub async fn archive(&self, job: &Job) -> Outcome {
        let end = |end| Outcome {
            ids: None,
            end,
            entries: Vec::new(),
        };
        let call = match Event::parse(&job.body) {
            Ok(Event::Analyzed(call)) => call,
            Ok(Event::Other(event)) => return end(End::Ignored { event }),
            Err(error) => return end(End::Invalid(error)),
        };
        let (end, entries) = match self.archive_call(&call, job).await {
            Ok(done) => done,
            Err(Stop::Duplicate) => (End::Duplicate, Vec::new()),
            Err(Stop::Fault(fault)) => (End::NotOurs(fault), Vec::new()),
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
        let known = if job.seen_before {
            self.known(call, job).await?
        } else {
            None
        };
        let planned = self.planner.plan(call);
        let mut keeping = Vec::with_capacity(planned.len());
        for (at, planned) in planned.iter().enumerate() {
            let stored = known.as_ref().and_then(|known| known.stored(at, planned));
            keeping.push(self.keep(call, planned, stored, job));
        }
        // All of them end before the first fault counts: what was fetched is stored, if it can be.
        let kept: Vec<Result<Kept, Stop>> =
            stream::iter(keeping).buffered(SIDE_BY_SIDE).collect().await;
        let kept: Vec<Kept> = kept.into_iter().collect::<Result<_, _>>()?;
        let (entries, errors): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
        self.commit(call, &entries, job).await?;
        let errors: Vec<FetchError> = errors.into_iter().flatten().collect();
        let end = if errors.is_empty() {
            End::Archived
        } else {
            End::Partial(errors)
        };
        Ok((end, entries))
    }
}
