//! When a signed URL says that it expires, and who goes first for that. Pure.

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use url::Url;

/// Earlier than this is no moment but a duration in seconds: some signers write that in `Expires`.
const FIRST_PLAUSIBLE: i64 = 1_000_000_000;

/// What tells no expiry counts as if it had so much time left when it began to wait: half of what a job has by
/// default, so that it goes before all newcomers long before its job gives up.
const HORIZON: TimeDelta = TimeDelta::minutes(10);

/// By when a URL that is waited with since `began` should be asked for; of several that wait, the first goes
/// first. One that is over already is in no more of a hurry than one that tells nothing; nor is one that has longer in less,
/// or it would wait behind all who come after it, for days.
pub fn due(url: &Url, began: DateTime<Utc>) -> DateTime<Utc> {
    let unhurried = unhurried(began);
    let expires = of(url).filter(|expires| *expires > began);
    expires.map_or(unhurried, |expires| expires.min(unhurried))
}

/// The same for what tells no expiry at all.
pub fn unhurried(began: DateTime<Utc>) -> DateTime<Utc> {
    began + HORIZON
}

/// The earliest moment that the URL's query names as its end, by the conventions of
///
/// - Amazon S3, [Signature Version 4](https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html):
///   `X-Amz-Date` and `X-Amz-Expires`, in seconds after it;
/// - Google Cloud Storage, [V4](https://cloud.google.com/storage/docs/authentication/signatures): the same with `X-Goog-`;
/// - both in their older form, and `CloudFront`: `Expires`, in seconds since 1970;
/// - Azure, [shared access signatures](https://learn.microsoft.com/rest/api/storageservices/create-service-sas):
///   `se`, in one of three forms of ISO 8601.
pub fn of(url: &Url) -> Option<DateTime<Utc>> {
    // Names are compared as they are signed but for their case; the first of a name counts.
    let value = |name: &str| {
        let mut pairs = url.query_pairs();
        pairs.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    };
    let signed_for = |prefix: &str| {
        let from = value(&format!("X-{prefix}-Date"))?;
        let from = NaiveDateTime::parse_from_str(&from, "%Y%m%dT%H%M%SZ").ok()?;
        let seconds = value(&format!("X-{prefix}-Expires"))?.parse().ok()?;
        from.and_utc()
            .checked_add_signed(TimeDelta::try_seconds(seconds)?)
    };
    let since_1970 = || {
        let seconds: i64 = value("Expires")?.parse().ok()?;
        (seconds >= FIRST_PLAUSIBLE).then(|| DateTime::from_timestamp(seconds, 0))?
    };
    let shared_access = || iso_8601(&value("se")?);
    [
        signed_for("Amz"),
        signed_for("Goog"),
        since_1970(),
        shared_access(),
    ]
    .into_iter()
    .flatten()
    .min()
}

/// A day, a minute of it, or a second of that; Azure takes all three, in UTC where no zone is named.
fn iso_8601(text: &str) -> Option<DateTime<Utc>> {
    let day = |text: &str| {
        NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()?
            .and_hms_opt(0, 0, 0)
    };
    let minute = |text: &str| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%MZ").ok();
    let second = DateTime::parse_from_rfc3339(text).map(|moment| moment.to_utc());
    let coarse = || {
        day(text)
            .or_else(|| minute(text))
            .map(|moment| moment.and_utc())
    };
    second.ok().or_else(coarse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiry(query: &str) -> Option<String> {
        let url = Url::parse(&format!("https://host/recording.wav?{query}")).unwrap();
        of(&url).map(|moment| moment.format("%FT%TZ").to_string())
    }

    #[test]
    fn each_signer_s_url_tells_when_it_expires() {
        for (query, expected) in [
            (
                "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-Signature=a",
                "2013-05-25T00:00:00Z",
            ),
            (
                "x-amz-expires=60&x-amz-date=20130524T000000Z",
                "2013-05-24T00:01:00Z",
            ),
            (
                "X-Goog-Date=20240229T235959Z&X-Goog-Expires=1",
                "2024-03-01T00:00:00Z",
            ),
            (
                "AWSAccessKeyId=A&Expires=1141889120&Signature=s",
                "2006-03-09T07:25:20Z",
            ),
            (
                "GoogleAccessId=a&Expires=1141889120&Signature=s",
                "2006-03-09T07:25:20Z",
            ),
            (
                "sv=2024-11-04&se=2024-05-01T10%3A20%3A30Z&sig=s",
                "2024-05-01T10:20:30Z",
            ),
            ("se=2024-05-01T10:20Z&sig=s", "2024-05-01T10:20:00Z"),
            ("se=2024-05-01&sig=s", "2024-05-01T00:00:00Z"),
            (
                "se=2024-05-01T12:00:00%2B02:00&sig=s",
                "2024-05-01T10:00:00Z",
            ),
            // Whichever ends first ends it.
            ("Expires=1141889120&se=2024-05-01", "2006-03-09T07:25:20Z"),
        ] {
            assert_eq!(expiry(query).as_deref(), Some(expected), "{query}");
        }
    }

    #[test]
    fn what_tells_no_expiry_or_a_past_one_goes_before_who_comes_ten_minutes_later() {
        let due = |query: &str, minutes| {
            let url = Url::parse(&format!("https://host/recording.wav?{query}")).unwrap();
            due(
                &url,
                DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::minutes(minutes),
            )
        };
        let soon = due("Expires=1728000060", 0);
        let (silent, past) = (due("", 0), due("Expires=1727999999", 0));
        assert!(soon < silent && silent == past);
        let days = "Expires=1728600000";
        assert_eq!(silent, due(days, 0), "it has a week");
        // Whoever has a second left comes too late to pass by.
        assert!(due(days, 0) < due("", 1));
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for query in [
            "",
            "Expires=3600",
            "Expires=",
            "Expires=-1",
            "Expires=tomorrow",
            "Expires=99999999999999999999",
            "Expires=9223372036854775807",
            "X-Amz-Expires=60",
            "X-Amz-Date=20130524T000000Z",
            "X-Amz-Date=2013-05-24&X-Amz-Expires=60",
            "X-Amz-Date=20130524T000000Z&X-Amz-Expires=9223372036854775807",
            "X-Amz-Date=99991231T000000Z&X-Amz-Expires=9000000000000000",
            "X-Amz-Date=20130524T000000Z&X-Goog-Expires=60",
            "se=sv-SE",
            "se=2024-13-01",
            "base=2024-05-01",
        ] {
            assert_eq!(expiry(query), None, "{query}");
        }
    }
}
