//! The story of one event: parse, fetch, check, store, and last the manifest. Read this first.

mod about;
mod job;

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout_at;

use self::about::{about, manifest_about};
pub use self::job::{End, Fault, Job, Outcome};

use crate::{
    attachment::{Planned, Planner, manifest_key},
    body::{Body, Budget},
    check::{Facts, Problem},
    event::{CallAnalyzed, Event},
    fetch::{FetchError, Fetched, Fetcher, Source},
    manifest::{Entry, EntryStatus, Known, Manifest, Object, Status, Worker},
    metadata,
    store::{Bucket, Put, Stores},
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
        let stored = |(at, planned)| known.as_ref().and_then(|known| known.stored(at, planned));
        let keeping: Vec<_> = planned
            .iter()
            .enumerate()
            .map(|(at, planned)| self.keep(call, planned, stored((at, planned)), job))
            .collect();
        let kept: Vec<Kept> = stream::iter(keeping)
            .buffered(SIDE_BY_SIDE)
            .try_collect()
            .await?;
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

    /// One attachment: fetched, checked and stored, or found stored already.
    async fn keep(
        &self,
        call: &CallAnalyzed,
        planned: &Planned<'_>,
        stored: Option<Entry>,
        job: &Job,
    ) -> Result<Kept, Stop> {
        if let Some(entry) = stored {
            return Ok((entry, None));
        }
        let Fetched { body, source } = match self.fetch(planned, job).await {
            Ok(fetched) => fetched,
            Err(FetchError::Spool(error)) => return Err(error.into()),
            Err(error) => return Ok((Entry::unavailable(planned, &error), Some(error))),
        };
        let verdict = self.check(planned, &body).await?;
        let entry = self
            .store(call, planned, source, body, verdict, job)
            .await?;
        Ok((entry, None))
    }

    async fn fetch(&self, planned: &Planned<'_>, job: &Job) -> Result<Fetched, FetchError> {
        let fetch = self
            .fetcher
            .fetch(&planned.listed.url, planned.kind.max_size, &self.budget);
        let late = |_| FetchError::Timeout("the job's time is over".into());
        timeout_at(job.deadline, fetch).await.map_err(late)?
    }

    /// Judges a body off the runtime's threads, so that a long one holds up nobody's heartbeat.
    async fn check(
        &self,
        planned: &Planned<'_>,
        body: &Body,
    ) -> io::Result<Result<Facts, Problem>> {
        let memory = planned.kind.check.memory(body.len());
        let _share = if memory > 0 {
            Some(self.budget.work(memory).await?)
        } else {
            None
        };
        let (kind, body) = (Arc::clone(&planned.kind), body.clone());
        tokio::task::spawn_blocking(move || kind.check.check(&body))
            .await
            .map_err(io::Error::other)?
    }

    /// Puts a body where its verdict sends it. A key that holds other bytes holds what an earlier
    /// attempt at this very event left: those stay, if they deserve the place.
    async fn store(
        &self,
        call: &CallAnalyzed,
        planned: &Planned<'_>,
        source: Source,
        body: Body,
        verdict: Result<Facts, Problem>,
        job: &Job,
    ) -> Result<Entry, Stop> {
        let name = if verdict.is_ok() {
            &planned.bucket
        } else {
            &planned.quarantine
        };
        let bucket = self.bucket(name)?;
        let declared = source
            .content_type
            .as_ref()
            .or(planned.listed.content_type.as_ref());
        let content_type = declared.and_then(|text| metadata::media_type(text));
        let about = about(call, planned, &body, &verdict, content_type.clone());
        let (key, patience) = (planned.key.as_str(), job.patience());
        let mut kept = (body, verdict);
        if bucket
            .put(key, &kept.0, &about, &self.budget, patience)
            .await?
            == Put::Occupied
        {
            // Another worker may have finished this event; then nothing of it may change any more.
            self.known(call, job).await?;
            let there = bucket.get(key, &self.budget, patience).await?;
            let judged = self.check(planned, &there).await?;
            if judged.is_ok() == kept.1.is_ok() {
                kept = (there, judged);
            } else {
                bucket
                    .overwrite(key, &kept.0, &about, &self.budget, patience)
                    .await?;
            }
        }
        let (body, verdict) = kept;
        let object = Object {
            bucket: name.clone(),
            key: planned.key.clone(),
            size: body.len(),
            sha256: body.sha256().to_string(),
            content_type,
        };
        Ok(Entry::stored(planned, source, object, verdict))
    }

    /// Writes the manifest: the commit mark. A complete one is never replaced, a partial one only by
    /// one that lacks less.
    async fn commit(&self, call: &CallAnalyzed, entries: &[Entry], job: &Job) -> Result<(), Stop> {
        let key = manifest_key(call);
        let manifest = Manifest::new(call, job.attempt, self.include_event, entries, &self.worker);
        let json = manifest.to_json().map_err(|source| Fault::Manifest {
            key: key.clone(),
            source,
        })?;
        let json = Bytes::from(json);
        let about = manifest_about(call);
        let missing = entries
            .iter()
            .filter(|entry| entry.status == EntryStatus::Unavailable)
            .count();
        loop {
            let patience = job.patience();
            if self
                .manifests
                .create(&key, json.clone(), &about, patience)
                .await?
                == Put::Stored
            {
                return Ok(());
            }
            let Some(found) = self.manifests.find(&key, patience).await? else {
                continue; // removed by somebody in between
            };
            if found.bytes == json {
                return Ok(()); // our own write, whose answer was lost
            }
            let known = Known::parse(&found.bytes).map_err(|source| Fault::Manifest {
                key: key.clone(),
                source,
            })?;
            if known.status == Status::Complete {
                return Err(Stop::Duplicate);
            }
            if missing >= known.missing()
                || self
                    .manifests
                    .replace(&key, &found, json.clone(), &about, patience)
                    .await?
                    == Put::Stored
            {
                return Ok(());
            }
        }
    }

    /// What an earlier attempt wrote of this event; [`Stop::Duplicate`] where that was everything.
    async fn known(&self, call: &CallAnalyzed, job: &Job) -> Result<Option<Known>, Stop> {
        let key = manifest_key(call);
        let Some(found) = self.manifests.find(&key, job.patience()).await? else {
            return Ok(None);
        };
        let known = Known::parse(&found.bytes).map_err(|source| Fault::Manifest { key, source })?;
        match known.status {
            Status::Complete => Err(Stop::Duplicate),
            Status::Partial => Ok(Some(known)),
        }
    }

    fn bucket(&self, name: &str) -> io::Result<&Arc<Bucket>> {
        // The configuration was judged with all its names; this is not reached.
        self.stores
            .get(name)
            .ok_or_else(|| io::Error::other(format!("no bucket is called {name:?}")))
    }
}
