//! What seals prove of the archive, beside what its manifests say ([`crate::seal`]).

use std::{pin::pin, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use serde::Serialize;

use super::{
    Auditor, Code, Finding, Going, Stopped,
    days::{Day, ManifestKey, Span},
    unread,
};
use crate::{
    body::Budget,
    digest::Sha256,
    seal::{Chain, Contents, Flaw, PREFIX, PublicKey, Standing, make::GONE},
    store::{Bucket, StoreError},
};

/// How old a day without a seal may be, from its end, while later ones have none either.
const DUE: TimeDelta = TimeDelta::days(2);

/// The seals of an archive, and what vouches for them.
#[derive(Debug)]
pub struct Seals {
    chain: Chain,
    flaws: Vec<Flaw>,
    budget: Budget,
    about: About,
}

/// What a report tells of the seals.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    /// How many there are.
    pub seals: usize,
    /// How many of them are proven by a signature of a key that was given.
    pub proven: usize,
    /// How many of them are no later than one whose root was given.
    pub noted: usize,
    /// The last one's hash.
    pub root: Option<String>,
    /// How many days they are of.
    pub days: usize,
    /// How many of them are supplements: of what came late.
    pub supplements: usize,
}

impl Seals {
    /// Reads all seals, and judges them by keys and roots from elsewhere.
    pub async fn read(
        manifests: &Arc<Bucket>,
        budget: Budget,
        keys: &[PublicKey],
        roots: &[Sha256],
    ) -> Result<Self, StoreError> {
        let mut chain = Chain::read(manifests).await?;
        let mut flaws = std::mem::take(&mut chain.flaws);
        if chain.links.is_empty() {
            let what = "there is no seal";
            flaws.push(Flaw::new(
                Code::SealMissing,
                format!("{PREFIX}/chain"),
                what,
            ));
        }
        flaws.extend(chain.expect(roots));
        if !(keys.is_empty() && roots.is_empty()) {
            flaws.extend(chain.prove(keys, roots));
        }
        let statements = || chain.links.iter().map(|link| &link.seal.statement);
        let mut days: Vec<Day> = statements().map(|statement| statement.day).collect();
        days.sort_unstable();
        days.dedup();
        let noted = chain
            .links
            .iter()
            .rposition(|link| roots.contains(&link.seal.sha256));
        let about = About {
            seals: chain.links.len(),
            proven: chain.links.iter().filter(|link| link.proven).count(),
            noted: noted.map_or(0, |last| last + 1),
            root: chain.head().map(|head| head.seal.sha256.to_string()),
            days: days.len(),
            supplements: statements().filter(|statement| statement.part > 1).count(),
        };
        Ok(Self {
            chain,
            flaws,
            budget,
            about,
        })
    }

    /// What a report tells of them.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Their days, of which all may be gone.
    pub(super) fn days(&self, span: Span) -> impl Iterator<Item = Day> {
        let days = self.chain.links.iter().map(|link| link.seal.statement.day);
        days.filter(move |day| span.has(*day))
    }
}

/// One day by its seals, while its manifests are looked at.
#[derive(Debug, Default)]
pub(super) struct SealedDay {
    contents: Option<Contents>,
    /// Whether it was told that there are none.
    told: bool,
}

impl Auditor {
    /// Tells what is wrong with the seals themselves, once in a run.
    pub(super) fn judge_seals(&self, going: &mut Going<'_>) {
        for flaw in self.seals.iter().flat_map(|seals| &seals.flaws) {
            going.find_once(&self.of_seals(flaw.clone()));
        }
    }

    fn of_seals(&self, flaw: Flaw) -> Finding {
        Finding::of_seals(self.manifests.name(), flaw)
    }

    /// What is sealed of a day.
    pub(super) async fn sealed_day(
        &self,
        day: Day,
        going: &mut Going<'_>,
    ) -> Result<SealedDay, Stopped> {
        let Some(seals) = &self.seals else {
            return Ok(SealedDay::default());
        };
        let read = Contents::read(&self.manifests, &seals.budget, &seals.chain, day);
        let contents = match going.or_stop(read).await? {
            Ok(contents) => contents,
            Err(error) => {
                going.leave(unread(
                    &self.manifests,
                    &format!("{PREFIX}/{}", day.folder()),
                    error,
                )?);
                None
            }
        };
        for flaw in contents.iter().flat_map(|contents| &contents.flaws) {
            going.find_once(&self.of_seals(flaw.clone()));
        }
        Ok(SealedDay {
            contents,
            told: false,
        })
    }

    /// Judges a manifest that was read.
    pub(super) fn judge_sealed(
        &self,
        of: &mut SealedDay,
        key: &ManifestKey,
        (sha256, modified): (Sha256, DateTime<Utc>),
        going: &mut Going<'_>,
    ) {
        let Some(contents) = &mut of.contents else {
            if !std::mem::replace(&mut of.told, true) {
                self.judge_unsealed(key.day, going);
            }
            return;
        };
        let standing = contents.judge(key, sha256);
        if standing != Standing::Sealed
            && let Some(flaw) = contents.flaw(key, standing, modified)
        {
            going.find(&self.of_seals(flaw));
        }
    }

    /// Judges a day that has manifests and no seal.
    fn judge_unsealed(&self, day: Day, going: &mut Going<'_>) {
        // That there are no seals at all is told once.
        let Some(seals) = self.seals.as_ref().filter(|seals| seals.about.seals > 0) else {
            return;
        };
        let over = day.date().and_hms_opt(23, 59, 59).map(|end| end.and_utc());
        let due = over.is_some_and(|end| self.now.signed_duration_since(end) > DUE);
        let later = seals.days(Span::default()).any(|sealed| sealed > day);
        if due || later {
            let what = "it has manifests, and no seal";
            going.find_once(&self.of_seals(Flaw::new(Code::DayUnsealed, day.folder(), what)));
        }
    }

    /// Looks for sealed manifests that were not among those of a day. Some may have been judged by the process that began
    /// the run, so each is asked for.
    pub(super) async fn missing_sealed(
        &self,
        of: &SealedDay,
        going: &mut Going<'_>,
    ) -> Result<(), Stopped> {
        let Some(contents) = &of.contents else {
            return Ok(());
        };
        let asked = contents.missing().into_iter().map(|key| async move {
            let _turn = self.requests.acquire().await;
            let there = self.manifests.size_of(&key).await;
            (key, there)
        });
        let mut asked = pin!(stream::iter(asked).buffered(self.jobs));
        while let Some((key, there)) = going.or_stop(asked.next()).await? {
            match there {
                Ok(Some(_)) => {}
                Ok(None) => going.find(&self.of_seals(Flaw::new(Code::SealedMissing, key, GONE))),
                Err(error) => going.leave(unread(&self.manifests, &key, error)?),
            }
        }
        Ok(())
    }
}
