//! Objects that no manifest names.
//!
//! An object's key tells its event, and so the one manifest that can name it: it is read, and asked. So nothing has to
//! be remembered of what was verified; where it is ([`Objects`]), it spares most of these questions.

use std::{future::ready, io, pin::pin, sync::Arc};

use futures_util::StreamExt;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Auditor, Going, Stopped, Told, Unread,
    days::{Day, ManifestKey},
    finding::{Code, Finding},
    look::Read,
    objects::{Name, Objects},
    state::At,
    unread,
};
use crate::{
    manifest::Object,
    store::{Bucket, StoreError},
};

/// An object that may be a stray, and the manifests that may name it.
struct Suspect {
    key: String,
    manifests: Vec<ManifestKey>,
}

/// What came of it.
enum Verdict {
    Named,
    Stray(Finding),
    Unread(Unread),
}

impl Auditor {
    /// Looks for strays of a day, or of all days. Where objects are `known`, those are looked at that no manifest named.
    pub(super) async fn strays(
        self: &Arc<Self>,
        day: Option<Day>,
        known: Option<&Objects>,
        going: &mut Going<'_>,
    ) -> Result<(), Stopped> {
        let mut from = match going.state.run().at.clone() {
            Some(At::Strays {
                day: at,
                bucket,
                after,
            }) if at == day => Some((bucket, after)),
            _ => None,
        };
        for bucket in self.places() {
            let after = match from.take() {
                Some((at, after)) if at == bucket.name() => after,
                Some(later) => {
                    from = Some(later);
                    continue;
                }
                None => None,
            };
            self.strays_in(&bucket, day, after, known, going).await?;
        }
        Ok(())
    }

    async fn strays_in(
        self: &Arc<Self>,
        bucket: &Arc<Bucket>,
        day: Option<Day>,
        after: Option<String>,
        known: Option<&Objects>,
        going: &mut Going<'_>,
    ) -> Result<(), Stopped> {
        (going.tell)(Told::Strays(bucket.name()));
        let folder = day.map(Day::folder).unwrap_or_default();
        let listed = bucket.list(&folder, after.as_deref());
        let at = |after| At::Strays {
            day,
            bucket: bucket.name().to_owned(),
            after,
        };
        going.state.run_mut().at = Some(at(after));
        let span = going.state.span();
        let suspects = listed.filter_map(|listed| {
            let suspect = listed.map(|listed| {
                let is_known =
                    known.is_some_and(|known| !known.is_unnamed(Name::of(bucket, &listed.key)));
                if is_known || self.is_young(listed.modified) {
                    return None;
                }
                let suspect = self.suspect(listed.key)?;
                let wanted = |at: &ManifestKey| day.is_some() || span.has(at.day);
                suspect.manifests.iter().any(wanted).then_some(suspect)
            });
            ready(suspect.transpose())
        });
        let verdicts = suspects.map(|suspect| {
            let (auditor, bucket) = (Arc::clone(self), Arc::clone(bucket));
            let judge = async move {
                let suspect = suspect?;
                let verdict = auditor.ask(&bucket, &suspect).await?;
                Ok::<_, StoreError>((suspect.key, verdict))
            };
            AbortOnDropHandle::new(tokio::spawn(judge))
        });
        let mut verdicts = pin!(verdicts.buffered(self.jobs));
        while let Some(verdict) = going.or_stop(verdicts.next()).await? {
            match verdict.map_err(io::Error::other)? {
                Ok((key, verdict)) => {
                    match verdict {
                        Verdict::Named => {}
                        Verdict::Stray(finding) => going.find(&finding),
                        Verdict::Unread(unread) => going.leave(unread),
                    }
                    going.state.run_mut().at = Some(at(Some(key)));
                }
                Err(error) => going.leave(unread(bucket, &folder, error)?),
            }
            going.state.keep().await?;
        }
        Ok(())
    }

    /// An object that has a key of callvault's, and is no manifest.
    fn suspect(&self, key: String) -> Option<Suspect> {
        if ManifestKey::parse(&key).is_some() {
            return None;
        }
        let manifests = self.planner.manifests_of(&key);
        let manifests: Vec<_> = manifests
            .iter()
            .filter_map(|key| ManifestKey::parse(key))
            .collect();
        (!manifests.is_empty()).then_some(Suspect { key, manifests })
    }

    /// Asks the manifests of an object's event for it.
    async fn ask(&self, bucket: &Bucket, suspect: &Suspect) -> Result<Verdict, StoreError> {
        let mut silent = None;
        for at in &suspect.manifests {
            let key = at.to_string();
            match self.read_manifest(&key, 0).await {
                Ok(Read::Missing) => {}
                Ok(Read::Whole(json, _share)) => match self.record(&json, at) {
                    Ok(record) => {
                        let named = |object: &Object| {
                            let place = self.stores.get(&object.bucket);
                            // In a bucket that is not known any more it may be this one: that is told itself.
                            object.key == suspect.key
                                && place.is_none_or(|place| place.place() == bucket.place())
                        };
                        if record.objects.iter().any(named) {
                            return Ok(Verdict::Named);
                        }
                        silent = Some((at, key));
                    }
                    // What it names cannot be known, and it is told itself.
                    Err(_) => return Ok(Verdict::Named),
                },
                Ok(Read::TooLarge(_)) => return Ok(Verdict::Named),
                Err(error) => {
                    return Ok(Verdict::Unread(unread(&self.manifests, &key, error)?));
                }
            }
        }
        let detail = match &silent {
            Some(_) => "the manifest of its event does not name it",
            None => "its event has no manifest",
        };
        let at = silent
            .as_ref()
            .map(|(at, _)| *at)
            .or(suspect.manifests.first());
        let Some(at) = at else {
            return Ok(Verdict::Named);
        };
        let place = (bucket.name(), suspect.key.as_str());
        let mut stray = Finding::of(Code::ObjectUnreferenced, at, place, detail);
        stray.manifest = silent.map(|(_, key)| key);
        Ok(Verdict::Stray(stray))
    }
}
