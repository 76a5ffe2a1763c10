//! The manifest: read where an event was here before, written last.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::{Archivist, Fault, Job, Stop, about::manifest_about, job::STORE, judge::aside};
use crate::{
    attachment::manifest_key,
    event::CallAnalyzed,
    flights::Stage,
    manifest::{Entry, EntryStatus, Known, Manifest, Status},
    store::{Found, Put},
    traces::Told,
};

/// How often a manifest's key is tried that other writers are at, too.
const COMMIT_TURNS: u32 = 8;
/// The pause between two turns, times the number of turns so far.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

impl Archivist {
    /// Writes the manifest: the commit mark. A complete one is never replaced, a partial one only by
    /// one that lacks less.
    pub(super) async fn commit(
        &self,
        call: &CallAnalyzed,
        entries: &[Entry],
        job: &Job,
    ) -> Result<(), Stop> {
        let writing = Stage::Manifest {
            bucket: self.manifests.name().into(),
        };
        let written = self.write_manifest(call, entries, job);
        let tell = |written: &Result<(), Stop>, told: &mut Told| {
            if let Err(Stop::Fault(fault)) = written {
                told.fails(fault.code());
            }
        };
        self.told_stage(job, writing, written, tell).await
    }

    async fn write_manifest(
        &self,
        call: &CallAnalyzed,
        entries: &[Entry],
        job: &Job,
    ) -> Result<(), Stop> {
        let key = manifest_key(call);
        let manifest = Manifest::new(call, job.attempt, self.include_event, entries, &self.worker);
        let json = aside(call.body.get().len(), || manifest.to_json());
        let json = json.map_err(|source| Fault::Manifest {
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
    pub(super) async fn known(
        &self,
        call: &CallAnalyzed,
        job: &Job,
    ) -> Result<Option<Known>, Stop> {
        let key = manifest_key(call);
        let looking = Stage::Looking {
            bucket: self.manifests.name().into(),
        };
        let found = self.manifests.find(&key, job.patience());
        let tell = |found: &Result<Option<_>, _>, told: &mut Told| match found {
            Ok(found) => told.add("callvault.found", found.is_some()),
            Err(_) => told.fails(STORE),
        };
        let Some(found) = self.told_stage(job, looking, found, tell).await? else {
            return Ok(None);
        };
        parse_known(call, &key, &found).map(Some)
    }
}

/// Reads a manifest that is there; [`Stop::Duplicate`] where it is complete, [`Stop::Taken`] where it is
/// another event's.
fn parse_known(call: &CallAnalyzed, key: &str, found: &Found) -> Result<Known, Stop> {
    let (known, is_ours) = aside(found.bytes.len(), || {
        let known = Known::parse(&found.bytes)?;
        // A webhook that is sent again may be written otherwise, and its URLs signed anew. But whoever lists
        // other attachments under the same ids is not archived by that, and must not pass for it.
        let is_ours = known.is_of(call.sha256) || known.lists(call);
        Ok((known, is_ours))
    })
    .map_err(|source| Fault::Manifest {
        key: key.into(),
        source,
    })?;
    if !is_ours {
        return Err(Stop::Taken);
    }
    match known.status {
        Status::Partial => Ok(known),
        Status::Complete => Err(Stop::Duplicate),
    }
}
