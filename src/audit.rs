//! Is the archive what its manifests say? Read from outside, without trust in what is read.
//!
//! Day by day: the day's objects are listed (`objects`), its manifests read (`record`) and each object that they
//! name looked at; then every listed object that no manifest named is held against the manifest that its key tells
//! (`strays`). Memory holds what is in flight and one day's listing, however large the archive. Where keys do not
//! begin with the day, objects are not listed by day: each is held against its manifest in the end.
//!
//! A store that does not answer is no finding: the run stops there and says so. What a store denies is left unread, and
//! told; the run goes on.

pub mod days;
mod finding;
mod look;
mod objects;
mod record;
mod sealed;
mod state;
mod strays;

use std::{
    collections::{BTreeSet, HashSet},
    io,
    pin::pin,
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::{
    days::{Day, ManifestKey, Span},
    look::Look,
    objects::{Name, Objects},
    record::Record,
    state::At,
};
pub use self::{
    finding::{Code, Finding},
    sealed::{About, Seals},
    state::{Arguments, Run, State, StateError, Tally},
};
use crate::{
    attachment::Planner,
    digest::Sha256,
    store::{Bucket, StoreError, Stores},
    telemetry,
};

/// Manifests that are under way for each request in flight: one of a long recording does not hold up the others.
const AHEAD: usize = 4;
/// Manifests' bytes in memory at once. A larger one is read alone.
const MEMORY: usize = 64 << 20;

/// Something that could not be verified, because a store denied it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unread {
    /// The bucket.
    pub bucket: String,
    /// The key, or that of a folder.
    pub key: String,
    /// What the store said.
    pub why: String,
}

/// What a run tells as it goes.
#[derive(Debug)]
pub enum Told<'a> {
    /// It is at this day.
    Day(Day),
    /// Something is wrong.
    Finding(&'a Finding),
    /// Something was not verified.
    Unread(&'a Unread),
    /// It is so far.
    Tally(&'a Tally),
    /// It looks for what no manifest names, in a bucket.
    Strays(&'a str),
}

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// It was told to stop.
    #[error("stopped by a signal")]
    Signal,
    /// A store does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state cannot be written.
    #[error("cannot write the state file: {0}")]
    State(#[from] io::Error),
}

/// Verifies archives.
#[derive(Debug)]
pub struct Auditor {
    planner: Planner,
    stores: Stores,
    manifests: Arc<Bucket>,
    quick: bool,
    jobs: usize,
    /// Requests in flight.
    requests: Semaphore,
    /// Manifests in memory, in KiB.
    memory: Arc<Semaphore>,
    now: DateTime<Utc>,
    /// How long an object may lie without a manifest, and a manifest be partial: its worker may still be at the event's
    /// other attachments, its message on its way round the retry queues.
    young: TimeDelta,
    /// What to hold the manifests against, too.
    seals: Option<Seals>,
}

/// How to verify.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Whether an object's size is enough.
    pub quick: bool,
    /// Requests in flight, at most.
    pub jobs: usize,
    /// How old an object without a manifest, or a partial manifest, has to be.
    pub older_than: TimeDelta,
}

impl Auditor {
    /// Of the archive in these buckets.
    pub fn new(planner: Planner, stores: Stores, manifests: Arc<Bucket>, how: How) -> Self {
        let How {
            quick,
            jobs,
            older_than: young,
        } = how;
        Self {
            planner,
            stores,
            manifests,
            quick,
            jobs,
            young,
            requests: Semaphore::new(jobs),
            memory: Arc::new(Semaphore::new(MEMORY >> 10)),
            now: Utc::now(),
            seals: None,
        }
    }

    /// The same, against the archive's seals.
    #[must_use]
    pub fn against(self, seals: Option<Seals>) -> Self {
        Self { seals, ..self }
    }

    /// What tells an archive from another: the places of its buckets by their names, and how keys are made.
    pub fn archive(stores: &Stores, manifests: &Bucket, key: &str) -> String {
        let mut places: Vec<_> = stores
            .iter()
            .map(|bucket| format!("{} {}\n", bucket.name(), bucket.place()))
            .collect();
        places.sort_unstable();
        places.push(format!("{}\n{key}", manifests.name()));
        Sha256::of(places.concat().as_bytes()).to_string()
    }

    /// Verifies what `state` says, from where it says. It is kept up to date, and written also where the run stops.
    pub async fn run(
        self: &Arc<Self>,
        state: &mut State,
        stop: &CancellationToken,
        tell: &mut (dyn FnMut(Told<'_>) + Send),
    ) -> Result<(), Stopped> {
        let mut going = Going { state, stop, tell };
        let ended = self.run_to_its_end(&mut going).await;
        let kept = state.end(ended.is_ok()).await;
        ended?;
        Ok(kept?)
    }

    async fn run_to_its_end(self: &Arc<Self>, going: &mut Going<'_>) -> Result<(), Stopped> {
        going.or_stop(self.reach()).await??;
        let span = going.state.span();
        let mut days = going.or_stop(self.days(span)).await??;
        days.extend(self.seals.iter().flat_map(|seals| seals.days(span)));
        self.judge_seals(going);
        for day in days {
            if !going.state.passes(day) {
                (going.tell)(Told::Day(day));
                self.day(day, going).await?;
            }
        }
        if !self.planner.is_by_day() {
            self.strays(None, None, going).await?;
        }
        Ok(())
    }

    /// Counts the manifests that a run has before it, for its progress.
    pub fn remaining(
        self: &Arc<Self>,
        state: &State,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send + use<> {
        let (auditor, span, passed) = (Arc::clone(self), state.span(), state.passed());
        let at = state.run().at.clone();
        async move {
            let mut count = 0;
            for day in days::days(&auditor.manifests, span).await? {
                let after = match &at {
                    _ if passed.contains(&day) => continue,
                    Some(At::Strays { day: Some(at), .. }) if *at == day => continue,
                    Some(At::Manifests { day: at, after }) if *at == day => after.as_deref(),
                    _ => None,
                };
                let mut listed = pin!(days::manifests(&auditor.manifests, day, after));
                while listed.try_next().await?.is_some() {
                    count += 1;
                }
            }
            Ok(count)
        }
    }

    /// Makes sure that every bucket is there: to a request for an object, a store says the same where the bucket is
    /// missing.
    async fn reach(&self) -> Result<(), StoreError> {
        let places = self.places();
        let reached = places.iter().map(|bucket| bucket.reach());
        let mut reached = stream::iter(reached).buffer_unordered(self.jobs);
        while let Some(reached) = reached.next().await {
            reached?;
        }
        Ok(())
    }

    /// The days of all buckets: objects may lie where every manifest has gone.
    async fn days(&self, span: Span) -> Result<BTreeSet<Day>, StoreError> {
        let buckets = if self.planner.is_by_day() {
            self.places()
        } else {
            vec![Arc::clone(&self.manifests)]
        };
        let found = buckets
            .into_iter()
            .map(|bucket| async move { days::days(&bucket, span).await });
        let mut found = stream::iter(found).buffer_unordered(self.jobs);
        let mut days = BTreeSet::new();
        while let Some(found) = found.next().await {
            match found {
                Ok(found) => days.extend(found),
                // What may not be listed is told with each day. Without the manifests' there is nothing to do.
                Err(error) if error.is_refusal() && error.bucket != self.manifests.name() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(days)
    }

    /// The buckets, each place once, in the order of their names; the manifests' first.
    fn places(&self) -> Vec<Arc<Bucket>> {
        let mut buckets: Vec<_> = self.stores.iter().collect();
        buckets
            .sort_unstable_by_key(|bucket| (bucket.name() != self.manifests.name(), bucket.name()));
        let mut seen = HashSet::new();
        buckets.retain(|bucket| seen.insert(bucket.place()));
        buckets.into_iter().cloned().collect()
    }

    async fn day(self: &Arc<Self>, day: Day, going: &mut Going<'_>) -> Result<(), Stopped> {
        let began = Utc::now();
        // A manifest that is partial since today is no problem yet.
        let problems = |run: &Run| (run.found(), run.unread, run.tally.partial);
        let before = problems(going.state.run());
        let at = going.state.run().at.clone();
        let (after, fresh) = match at {
            Some(At::Manifests { day: at, after }) if at == day => {
                (Some(after.clone()), after.is_none())
            }
            Some(At::Strays { day: Some(at), .. }) if at == day => (None, false),
            _ => (Some(None), true),
        };
        let mut objects = None;
        if let Some(after) = after {
            let listed = self.list(day, going).await?;
            let listed = objects.insert(Arc::new(listed));
            self.manifests_of(day, after, listed, going).await?;
        }
        // Gone on with from another process, nothing is known of what the first manifests named.
        let known = objects.as_deref().filter(|_| fresh);
        if self.planner.is_by_day() && known.is_none_or(Objects::any_unnamed) {
            self.strays(Some(day), known, going).await?;
        }
        // Nor is it known whether nothing was wrong there. What is young will have to be looked at once more.
        let settled = known.is_some_and(|known| !known.any_young_unnamed());
        let is_whole = settled && problems(going.state.run()) == before;
        going.state.day_is_done(day, began, is_whole);
        going.state.keep().await?;
        Ok(())
    }

    /// Lists a day's objects in all buckets.
    async fn list(&self, day: Day, going: &mut Going<'_>) -> Result<Objects, Stopped> {
        let mut objects = Objects::default();
        if !self.planner.is_by_day() {
            return Ok(objects);
        }
        let folder = day.folder();
        let lists = self.places().into_iter().map(|bucket| {
            let listed = bucket.list(&folder, None);
            listed
                .map(move |listed| (Arc::clone(&bucket), listed))
                .boxed()
        });
        let mut lists = stream::select_all(lists);
        while let Some((bucket, listed)) = going.or_stop(lists.next()).await? {
            match listed {
                Ok(listed) if ManifestKey::parse(&listed.key).is_some() => {}
                Ok(listed) => {
                    let young = self.is_young(listed.modified);
                    objects.list(Name::of(&bucket, &listed.key), listed.size, young);
                }
                Err(error) => going.leave(unread(&bucket, &folder, error)?),
            }
        }
        Ok(objects)
    }

    fn record(&self, json: &[u8], at: &ManifestKey) -> Result<Record, (Code, String)> {
        Record::read(json, at, self.now, self.young)
    }

    fn is_young(&self, modified: DateTime<Utc>) -> bool {
        let age = self.now.signed_duration_since(modified);
        // A time to come is of no clock: in a folder anybody can set it, and nothing would ever be told.
        age < self.young && age > -TimeDelta::days(1)
    }

    /// Reads a day's manifests, and looks at what they name.
    async fn manifests_of(
        self: &Arc<Self>,
        day: Day,
        after: Option<String>,
        objects: &Arc<Objects>,
        going: &mut Going<'_>,
    ) -> Result<(), Stopped> {
        let listed = days::manifests(&self.manifests, day, after.as_deref());
        going.state.run_mut().at = Some(At::Manifests { day, after });
        let mut sealed = self.sealed_day(day, going).await?;
        let looks = listed.map(|listed| {
            let (auditor, objects) = (Arc::clone(self), Arc::clone(objects));
            let look = async move {
                let (key, listed) = listed?;
                let look = auditor.look(key, listed.size, &objects).await?;
                Ok((look, listed.modified))
            };
            AbortOnDropHandle::new(tokio::spawn(look))
        });
        // In order, for the place where another process goes on.
        let mut looks = pin!(looks.buffered(self.jobs * AHEAD));
        while let Some(look) = going.or_stop(looks.next()).await? {
            match look.map_err(io::Error::other)? {
                Ok((look, modified)) => {
                    if let (Some(sha256), Some(key)) = (look.sha256, ManifestKey::parse(&look.key))
                    {
                        self.judge_sealed(&mut sealed, &key, (sha256, modified), going);
                    }
                    going.take(look, day);
                }
                Err(error) => going.leave(unread(&self.manifests, &day.folder(), error)?),
            }
            going.state.keep().await?;
        }
        self.missing_sealed(&sealed, going).await
    }
}

/// A run under way.
struct Going<'a> {
    state: &'a mut State,
    stop: &'a CancellationToken,
    tell: &'a mut (dyn FnMut(Told<'_>) + Send),
}

impl Going<'_> {
    async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            done = work => Ok(done),
            () = self.stop.cancelled() => Err(Stopped::Signal),
        }
    }

    /// Notes what came of a manifest.
    fn take(&mut self, look: Look, day: Day) {
        look.findings.iter().for_each(|finding| self.find(finding));
        for unread in look.unread {
            self.leave(unread);
        }
        let run = self.state.run_mut();
        run.tally.add(&look.tally);
        run.at = Some(At::Manifests {
            day,
            after: Some(look.key),
        });
        (self.tell)(Told::Tally(&self.state.run().tally));
    }

    fn find(&mut self, finding: &Finding) {
        (self.tell)(Told::Finding(finding));
        self.state.run_mut().find(finding);
    }

    /// Tells what the process that began the run may have told.
    fn find_once(&mut self, finding: &Finding) {
        let told = |other: &Finding| other.code == finding.code && other.key == finding.key;
        if !self.state.run().findings.iter().any(told) {
            self.find(finding);
        }
    }

    fn leave(&mut self, unread: Unread) {
        (self.tell)(Told::Unread(&unread));
        self.state.run_mut().leave_unread(unread);
    }
}

/// What a store denied; anything else ends the run.
fn unread(bucket: &Bucket, key: &str, error: StoreError) -> Result<Unread, StoreError> {
    if !error.is_refusal() {
        return Err(error);
    }
    Ok(Unread {
        bucket: bucket.name().to_owned(),
        key: key.to_owned(),
        why: telemetry::chain(&error),
    })
}
