//! The story of one event: parse, fetch, check, store, and last the manifest. Read this first.

mod about;
mod job;

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::time::sleep;

use self::about::{about, manifest_about};
pub use self::job::{End, Fault, Job, Outcome};

use crate::{
    attachment::{Planned, Planner, manifest_key},
    body::{Body, Budget, blocking},
    check::{Facts, Problem},
    event::{CallAnalyzed, Event},
    fetch::{FetchError, Fetched, Fetcher, Source},
    manifest::{Entry, EntryStatus, Known, Manifest, Object, Status, Worker},
    metadata,
    outage::Outage,
    store::{Bucket, Found, Put, Stores},
};

/// Attachments of one event that are under way at once.
const SIDE_BY_SIDE: usize = 8;
/// How often a manifest's key is tried that other writers are at, too.
const COMMIT_TURNS: u32 = 8;
/// The pause between two turns, times the number of turns so far.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

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

/// Bytes with what the origin said of them and what their check found.
#[derive(Debug)]
struct Checked {
    body: Body,
    source: Source,
    verdict: Result<Facts, Problem>,
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
        let checked = match self.fetch_checked(planned, job).await? {
            Ok(checked) => checked,
            Err(error) => return Ok((Entry::unavailable(planned, &error), Some(error))),
        };
        match self.put(call, planned, &checked, job).await? {
            Put::Stored => Ok((checked.entry(planned), None)),
            Put::Occupied => {
                let good = checked.verdict.is_ok();
                // Its room in the budget is needed for what is there.
                drop(checked);
                self.resolve(call, planned, good, job).await
            }
        }
    }

    /// A key that holds other bytes holds what an earlier attempt at this very event left. Those stay if
    /// they deserve the place: the first writer wins. Otherwise they make way.
    async fn resolve(
        &self,
        call: &CallAnalyzed,
        planned: &Planned<'_>,
        good: bool,
        job: &Job,
    ) -> Result<Kept, Stop> {
        // Another worker may have finished this event; then nothing of it may change any more.
        self.known(call, job).await?;
        let bucket = self.bucket(planned.place(good))?;
        let there = bucket
            .get(&planned.key, &self.budget, job.patience())
            .await?;
        let source = Source {
            content_type: there.content_type,
            ..Source::default()
        };
        let there = self.judge(planned, there.body, source).await?;
        if there.verdict.is_ok() || !good {
            // Where it lies already it is found to be the same.
            return match self.put(call, planned, &there, job).await? {
                Put::Stored => Ok((there.entry(planned), None)),
                Put::Occupied => Err(Fault::Contended {
                    key: planned.key.clone(),
                }
                .into()),
            };
        }
        drop(there);
        let again = match self.fetch_checked(planned, job).await? {
            Ok(checked) if checked.verdict.is_ok() => checked,
            Ok(_) => {
                return Err(Fault::Contended {
                    key: planned.key.clone(),
                }
                .into());
            }
            Err(error) => return Ok((Entry::unavailable(planned, &error), Some(error))),
        };
        self.known(call, job).await?;
        let about = about(call, planned, &again);
        bucket
            .overwrite(
                &planned.key,
                &again.body,
                &about,
                &self.budget,
                job.patience(),
            )
            .await?;
        Ok((again.entry(planned), None))
    }

    /// Downloads and judges; the inner error is the origin's fault, or the event's.
    async fn fetch_checked(
        &self,
        planned: &Planned<'_>,
        job: &Job,
    ) -> Result<Result<Checked, FetchError>, Fault> {
        let (url, most) = (&planned.listed.url, planned.kind.max_size);
        let fetch = || async {
            match self
                .fetcher
                .fetch(url, most, &self.budget, job.deadline)
                .await
            {
                Err(FetchError::Local(error)) => Err(error),
                fetched => Ok(fetched),
            }
        };
        match self.spool.wait_out(job.patience(), fetch).await? {
            Ok(Fetched { body, source }) => Ok(Ok(self.judge(planned, body, source).await?)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Judges a body off the runtime's threads, so that a long one holds up nobody's heartbeat.
    async fn judge(
        &self,
        planned: &Planned<'_>,
        body: Body,
        source: Source,
    ) -> io::Result<Checked> {
        let kind = Arc::clone(&planned.kind);
        let (looked_at, most) = (body.clone(), self.budget.most_work());
        let memory = blocking(move || kind.check.memory(&looked_at)).await?;
        let verdict = if memory > most {
            Err(Problem::too_complex(memory, most))
        } else {
            let _share = self.budget.work(memory).await?;
            let (kind, body) = (Arc::clone(&planned.kind), body.clone());
            blocking(move || kind.check.check(&body)).await?
        };
        Ok(Checked {
            body,
            source,
            verdict,
        })
    }

    /// Puts a body where its verdict sends it.
    async fn put(
        &self,
        call: &CallAnalyzed,
        planned: &Planned<'_>,
        checked: &Checked,
        job: &Job,
    ) -> Result<Put, Fault> {
        let bucket = self.bucket(planned.place(checked.verdict.is_ok()))?;
        let about = about(call, planned, checked);
        let put = bucket.put(
            &planned.key,
            &checked.body,
            &about,
            &self.budget,
            job.patience(),
        );
        Ok(put.await?)
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
        for turn in 1..=COMMIT_TURNS {
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
                // Removed in between, or refused because of another writer at the same time.
                sleep(COMMIT_PAUSE * turn).await;
                continue;
            };
            if found.bytes == json {
                return Ok(()); // our own write, whose answer was lost
            }
            let known = parse_known(call, &key, &found)?;
            // One that lacks as much tells as much; a complete one always replaces.
            let no_further = missing > 0 && missing >= known.missing();
            if no_further
                || self
                    .manifests
                    .replace(&key, &found, json.clone(), &about, patience)
                    .await?
                    == Put::Stored
            {
                return Ok(());
            }
        }
        Err(Fault::Contended { key }.into())
    }

    /// What an earlier attempt wrote of this event; [`Stop::Duplicate`] where that was everything.
    async fn known(&self, call: &CallAnalyzed, job: &Job) -> Result<Option<Known>, Stop> {
        let key = manifest_key(call);
        let Some(found) = self.manifests.find(&key, job.patience()).await? else {
            return Ok(None);
        };
        parse_known(call, &key, &found).map(Some)
    }

    fn bucket(&self, name: &str) -> io::Result<&Arc<Bucket>> {
        // The configuration was judged with all its names; this is not reached.
        self.stores
            .get(name)
            .ok_or_else(|| io::Error::other(format!("no bucket is called {name:?}")))
    }
}

/// Reads a manifest that is there; [`Stop::Duplicate`] where it is complete.
fn parse_known(call: &CallAnalyzed, key: &str, found: &Found) -> Result<Known, Stop> {
    let known = Known::parse(&found.bytes).map_err(|source| Fault::Manifest {
        key: key.into(),
        source,
    })?;
    if known.status == Status::Partial {
        return Ok(known);
    }
    if !known.is_of(call.sha256) {
        let (call_id, request_id) = (call.call_id.as_str(), call.request_id.as_str());
        tracing::warn!(
            call_id,
            request_id,
            "an event with these ids and another body was archived before"
        );
    }
    Err(Stop::Duplicate)
}

impl Checked {
    /// What the manifest says of it, once it is stored.
    fn entry(self, planned: &Planned<'_>) -> Entry {
        let object = Object {
            bucket: planned.place(self.verdict.is_ok()).to_owned(),
            key: planned.key.clone(),
            size: self.body.len(),
            sha256: self.body.sha256().to_string(),
            content_type: self.content_type(planned),
        };
        Entry::stored(planned, self.source, object, self.verdict)
    }

    /// The origin's word, else the event's, as far as it may stand in a header.
    fn content_type(&self, planned: &Planned<'_>) -> Option<String> {
        [&self.source.content_type, &planned.listed.content_type]
            .into_iter()
            .flatten()
            .find_map(|text| metadata::media_type(text))
    }
}
