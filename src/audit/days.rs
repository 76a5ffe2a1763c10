//! The archive day by day: manifests lie at `{date}/{call_id}/{request_id}/manifest.json`, whatever the configuration
//! says.

use std::{fmt, str::FromStr, sync::Arc};

use chrono::{Datelike, NaiveDate};
use futures_util::{Stream, StreamExt, future::ready};
use serde::{Deserialize, Serialize};

use crate::{
    event::Id,
    store::{Bucket, Listed, StoreError},
};

/// A day of the archive, as keys have it: `2023/08/24`. Written in reports as `2023-08-24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(NaiveDate);

/// Not a date.
#[derive(Debug, thiserror::Error)]
#[error("not a date: write one as 2023-08-24")]
pub struct NoDay;

impl Day {
    /// The day of a date.
    pub fn of(date: NaiveDate) -> Self {
        Self(date)
    }

    /// Its date.
    pub fn date(self) -> NaiveDate {
        self.0
    }

    /// What its keys begin with, without a slash at the end.
    pub fn folder(self) -> String {
        let date = self.0;
        format!("{:04}/{:02}/{:02}", date.year(), date.month(), date.day())
    }

    /// The day that segments of a key name: just as callvault writes them, and one of the calendar's.
    fn of_segments(year: &str, month: &str, day: &str) -> Option<Self> {
        let date = NaiveDate::from_ymd_opt(
            digits(year, 4)?.try_into().ok()?,
            digits(month, 2)?,
            digits(day, 2)?,
        )?;
        Some(Self(date))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = self.0;
        write!(
            f,
            "{:04}-{:02}-{:02}",
            date.year(),
            date.month(),
            date.day()
        )
    }
}

impl FromStr for Day {
    type Err = NoDay;

    fn from_str(text: &str) -> Result<Self, NoDay> {
        match text.split(['-', '/']).collect::<Vec<_>>()[..] {
            [year, month, day] => Self::of_segments(year, month, day).ok_or(NoDay),
            _ => Err(NoDay),
        }
    }
}

impl Serialize for Day {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn digits(text: &str, count: usize) -> Option<u32> {
    let fits = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok())?
}

/// Days from one to another, both inclusive, where they are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first day.
    pub since: Option<Day>,
    /// The last day.
    pub until: Option<Day>,
}

impl Span {
    /// Whether a day is in it.
    pub fn has(self, day: Day) -> bool {
        self.since.is_none_or(|since| since <= day) && self.until.is_none_or(|until| day <= until)
    }

    /// Whether any of the days between two is in it.
    fn meets(self, first: Day, last: Day) -> bool {
        self.since.is_none_or(|since| since <= last)
            && self.until.is_none_or(|until| first <= until)
    }
}

/// The days that have keys in a bucket, in order: found year by year and month by month, however many objects there are.
pub async fn days(bucket: &Bucket, span: Span) -> Result<Vec<Day>, StoreError> {
    let mut days = Vec::new();
    for year in bucket.folders("").await? {
        let first = Day::of_segments(&year, "01", "01");
        let last = Day::of_segments(&year, "12", "31");
        if !first.zip(last).is_some_and(|(a, b)| span.meets(a, b)) {
            continue;
        }
        for month in bucket.folders(&year).await? {
            let first = Day::of_segments(&year, &month, "01");
            let last = first.and_then(|first| {
                let last = first.0.num_days_in_month();
                first.0.with_day(last.into()).map(Day)
            });
            if !first.zip(last).is_some_and(|(a, b)| span.meets(a, b)) {
                continue;
            }
            let found = bucket.folders(&format!("{year}/{month}")).await?;
            let found = found
                .iter()
                .filter_map(|day| Day::of_segments(&year, &month, day));
            days.extend(found.filter(|day| span.has(*day)));
        }
    }
    Ok(days)
}

/// The key of a manifest, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestKey {
    /// The day that the call began.
    pub day: Day,
    /// The call's identifier.
    pub call_id: Id,
    /// The event's.
    pub request_id: Id,
}

impl ManifestKey {
    /// Takes a key apart, if it is that of a manifest.
    pub fn parse(key: &str) -> Option<Self> {
        let segments: Vec<&str> = key.splitn(7, '/').collect();
        let [year, month, day, call_id, request_id, "manifest.json"] = segments[..] else {
            return None;
        };
        Some(Self {
            day: Day::of_segments(year, month, day)?,
            call_id: Id::new(call_id)?,
            request_id: Id::new(request_id)?,
        })
    }
}

impl fmt::Display for ManifestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            day,
            call_id,
            request_id,
        } = self;
        write!(f, "{}/{call_id}/{request_id}/manifest.json", day.folder())
    }
}

/// The manifests of one day as their bucket lists them, in its order, from the one after `after` on.
pub fn manifests(
    bucket: &Arc<Bucket>,
    day: Day,
    after: Option<&str>,
) -> impl Stream<Item = Result<(ManifestKey, Listed), StoreError>> + Send + use<> {
    let listed = bucket.list(&day.folder(), after);
    listed.filter_map(|listed| {
        ready(match listed {
            Ok(listed) => ManifestKey::parse(&listed.key).map(|key| Ok((key, listed))),
            Err(error) => Some(Err(error)),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_manifests_own_key_is_taken_apart() {
        let key = "2023/08/24/5e09/r-1/manifest.json";
        assert_eq!(ManifestKey::parse(key).unwrap().to_string(), key);
        for other in [
            "2023/08/24/5e09/r-1/manifest-2.json",
            "2023/02/30/5e09/r-1/manifest.json",
            "2023/8/24/5e09/r-1/manifest.json",
            "2023/08/24/5e09/manifest.json",
            "2023/08/24/../r-1/manifest.json",
            "2023/08/24/5e09/r-1/manifest.json/x",
            "x/2023/08/24/5e09/r-1/manifest.json",
            "",
        ] {
            assert_eq!(ManifestKey::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_day_is_a_date_of_the_calendar() {
        let day: Day = "2024-02-29".parse().unwrap();
        assert_eq!(
            (day.to_string(), day.folder()),
            ("2024-02-29".into(), "2024/02/29".into())
        );
        for other in [
            "2023-02-29",
            "2023-8-24",
            "yesterday",
            "2023-08-24T00:00",
            "+023-08-24",
        ] {
            assert!(other.parse::<Day>().is_err(), "{other}");
        }
    }
}
