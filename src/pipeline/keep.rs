//! One attachment's way: fetched, checked, stored.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    sync::MutexGuard,
    time::{Instant, timeout},
};
use url::Url;

use super::{
    Archivist, Fault, Job, Kept, Missing, Stop,
    about::about,
    job::{SPOOL, STORE},
    judge::Verdict,
};
use crate::{
    attachment::Planned,
    body::Body,
    event::CallAnalyzed,
    fetch::{FetchError, Fetched, Source, expiry},
    flights::Stage,
    manifest::{Entry, Object},
    metadata,
    store::{Bucket, Put, StoreError, Stored},
    traces::Told,
};

/// Bytes with what the origin said of them and what their check found.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) body: Body,
    source: Source,
    pub(super) verdict: Verdict,
}

impl Archivist {
    /// One attachment: fetched, checked and stored.
    pub(super) async fn keep(
        &self,
        call: &CallAnalyzed,
        planned: &Planned<'_>,
        job: &Job,
    ) -> Result<Kept, Stop> {
        // What was here before was downloaded before. As long as its bucket does not work it is not
        // downloaded again; a first download may not wait, for URLs expire.
        let _trial = if job.seen_before {
            self.gate(planned, job).await?
        } else {
            None
        };
        let checked = match self.fetch_checked(planned, job).await? {
            Ok(checked) => checked,
            Err(error) => return Ok(missing(planned, error)),
        };
        match self.put(call, planned, &checked, job).await? {
            Put::Stored => Ok((checked.entry(planned), None)),
            Put::Occupied => {
                let good = checked.verdict.is_ok();
                // Its room in the budget is needed for what is there.
                drop(checked);
                // Seldom, and large.
                Box::pin(self.resolve(call, planned, good, job)).await
            }
        }
    }

    /// Waits as long as an attachment's bucket does not work; of those who wait, one at a time tries.
    async fn gate(
        &self,
        planned: &Planned<'_>,
        job: &Job,
    ) -> Result<Option<MutexGuard<'_, ()>>, Fault> {
        let bucket = self.bucket(planned.place(true))?;
        let gate = timeout(job.patience(), bucket.outage().gate());
        let waiting = Stage::Waiting {
            bucket: bucket.name().into(),
        };
        let gate = self.stage(job, waiting, gate).await;
        let trial = gate.map_err(|_| Fault::Down {
            part: format!("bucket {:?}", bucket.name()),
        })?;
        // Whoever waited long would be cut short in its download, and hold the trial without ever trying the bucket.
        if trial.is_some() && job.is_late() {
            return Err(Fault::Late);
        }
        Ok(trial)
    }

    /// A key that holds other bytes holds what an earlier attempt at this very event left. Those stay if
    /// they deserve the place: the first writer wins. Otherwise they make way. Where another event came
    /// under the same identifiers at the same time, what it left is neither taken over nor overwritten.
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
        let reading = Stage::Reading {
            kind: planned.kind.name.clone(),
            bucket: bucket.name().into(),
        };
        let there = bucket.get(&planned.key, &self.budget, job.patience());
        let tell = |there: &Result<Stored, StoreError>, told: &mut Told| match there {
            Ok(there) => told.bytes(there.body.len()),
            Err(_) => told.fails(STORE),
        };
        let there = self.told_stage(job, reading, there, tell).await?;
        let (ours, theirs) = (call.sha256.to_string(), there.event.unwrap_or_default());
        // Without a mark it is as it was before there were marks, and in a folder: this event's own.
        if !theirs.is_empty() && theirs != ours {
            return Ok(missing(planned, FetchError::KeyTaken));
        }
        let source = Source {
            content_type: there.content_type,
            ..Source::default()
        };
        let there = self.judge(planned, there.body, source, job).await?;
        if there.verdict.is_ok() || !good {
            // Where it lies already it is found to be the same.
            return match self.put(call, planned, &there, job).await? {
                Put::Stored => Ok((there.entry(planned), None)),
                Put::Occupied => Err(contended(planned)),
            };
        }
        drop(there);
        let again = match self.fetch_checked(planned, job).await? {
            Ok(checked) if checked.verdict.is_ok() => checked,
            Ok(_) => {
                return Err(contended(planned));
            }
            Err(error) => return Ok(missing(planned, error)),
        };
        let about = about(call, planned, &again);
        let (body, patience) = (&again.body, job.patience());
        let staged = bucket.stage(&planned.key, body, &about, &self.budget, patience);
        let tell = |staged: &Result<_, _>, told: &mut Told| tell_written(staged, body, told);
        let staged = self
            .told_stage(job, storing(planned, bucket), staged, tell)
            .await?;
        // That may have taken minutes, in which another worker may have finished the event.
        self.known(call, job).await?;
        // Not again after a pause, in which another worker may finish it.
        let overwritten = bucket.overwrite(staged, body, &about, &self.budget, Duration::ZERO);
        let tell = |done: &Result<_, _>, told: &mut Told| tell_written(done, body, told);
        self.told_stage(job, storing(planned, bucket), overwritten, tell)
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
            let (received, fetching) = (
                job.flight.received(),
                Stage::Fetching {
                    kind: planned.kind.name.clone(),
                },
            );
            let fetched = self
                .fetcher
                .fetch(url, most, &self.budget, job.deadline(), received);
            let tell = |fetched: &_, told: &mut Told| tell_fetched(url, fetched, told);
            match self.told_stage(job, fetching, fetched, tell).await {
                Err(FetchError::Local(error)) => Err(error),
                fetched => Ok(fetched),
            }
        };
        match self
            .spool
            .wait_out("spool a download", job.patience(), fetch)
            .await?
        {
            Ok(Fetched { body, source }) => Ok(Ok(self.judge(planned, body, source, job).await?)),
            // The origin is not to pay for the time that a part of ours took.
            Err(FetchError::Late | FetchError::NoRoom { .. })
                if self.down_since(job.started) > job.time / 4 =>
            {
                Err(Fault::Late)
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// How long the worst of what is ours did not work since then.
    fn down_since(&self, then: Instant) -> Duration {
        let buckets = self.stores.iter();
        let down = buckets.map(|bucket| bucket.outage().down_since(then));
        down.fold(self.spool.down_since(then), Duration::max)
    }

    async fn judge(
        &self,
        planned: &Planned<'_>,
        body: Body,
        source: Source,
        job: &Job,
    ) -> io::Result<Checked> {
        let checking = Stage::Checking {
            kind: planned.kind.name.clone(),
        };
        let verdict = self.verdict(&planned.kind, &body);
        let tell = |verdict: &io::Result<Verdict>, told: &mut Told| match verdict {
            Ok(Ok(_)) => {}
            // What the check is for: no failure of it.
            Ok(Err(problem)) => told.add("callvault.problem", problem.code.clone()),
            Err(_) => told.fails(SPOOL),
        };
        let verdict = self.told_stage(job, checking, verdict, tell).await?;
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
        let tell = |put: &_, told: &mut Told| tell_written(put, &checked.body, told);
        let put = self.told_stage(job, storing(planned, bucket), put, tell);
        Ok(put.await?)
    }

    fn bucket(&self, name: &str) -> io::Result<&Arc<Bucket>> {
        // The configuration was judged with all its names; this is not reached.
        self.stores
            .get(name)
            .ok_or_else(|| io::Error::other(format!("no bucket is called {name:?}")))
    }
}

fn storing(planned: &Planned<'_>, bucket: &Bucket) -> Stage {
    Stage::Storing {
        kind: planned.kind.name.clone(),
        bucket: bucket.name().into(),
    }
}

fn tell_written<T>(written: &Result<T, StoreError>, body: &Body, told: &mut Told) {
    told.bytes(body.len());
    if written.is_err() {
        told.fails(STORE);
    }
}

/// In bytes: no name that can be looked up is longer.
const LONGEST_HOST: usize = 253;

/// Of the URL its host alone: what follows it can be a credential, or somebody's own.
fn tell_fetched(url: &Url, fetched: &Result<Fetched, FetchError>, told: &mut Told) {
    told.add("http.request.method", "GET");
    if let Some(host) = url.host_str().filter(|host| host.len() <= LONGEST_HOST) {
        told.add("server.address", host.to_owned());
    }
    if let Some(port) = url.port_or_known_default() {
        told.add("server.port", i64::from(port));
    }
    match fetched {
        Ok(fetched) => {
            told.add("http.response.status_code", 200);
            told.bytes(fetched.body.len());
        }
        Err(error) => {
            if let FetchError::Status { status, .. } | FetchError::Expired { status } = error {
                told.add("http.response.status_code", i64::from(status.as_u16()));
            }
            told.fails(error.code());
        }
    }
}

fn missing(planned: &Planned<'_>, error: FetchError) -> Kept {
    let entry = Entry::unavailable(planned, &error);
    let expires = expiry::of(&planned.listed.url);
    (entry, Some(Missing { error, expires }))
}

fn contended(planned: &Planned<'_>) -> Stop {
    let key = planned.key.clone();
    Fault::Contended { key }.into()
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
    pub(super) fn content_type(&self, planned: &Planned<'_>) -> Option<String> {
        [&self.source.content_type, &planned.listed.content_type]
            .into_iter()
            .flatten()
            .find_map(|text| metadata::media_type(text))
    }
}
