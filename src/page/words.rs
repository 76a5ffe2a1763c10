//! Times, numbers and sizes as the page says them.

use std::time::Duration;

use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// How long: two units, of which the second is left out where the first says enough.
pub(super) fn long(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => "under 1 s".to_owned(),
        1..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => two(seconds, MINUTE, "min", "s"),
        HOUR..DAY => two(seconds / MINUTE, HOUR / MINUTE, "h", "min"),
        _ => two(seconds / HOUR, DAY / HOUR, "d", "h"),
    }
}

fn two(of: u64, unit: u64, large: &str, small: &str) -> String {
    match (of / unit, of % unit) {
        (whole, 0) => format!("{whole} {large}"),
        (whole, rest) => format!("{whole} {large} {rest} {small}"),
    }
}

/// A whole number, its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut told = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            told.push(',');
        }
        told.push(digit);
    }
    told
}

/// A number and what it counts: `1 event`, `12 events`.
pub(super) fn many(number: u64, one: &str, more: &str) -> String {
    let word = if number == 1 { one } else { more };
    format!("{} {word}", count(number))
}

/// A rate: to a tenth where it is small, and never zero unless it is.
pub(super) fn rate(per_minute: f64) -> String {
    if per_minute == 0.0 {
        "0".to_owned()
    } else if per_minute < 0.05 {
        "under 0.1".to_owned()
    } else if per_minute < 9.95 {
        format!("{per_minute:.1}")
    } else {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rounded count, which saturates"
        )]
        let whole = per_minute.round() as u64;
        count(whole)
    }
}

/// Bytes.
pub(super) fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

/// A moment, in UTC.
pub(super) fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Words with commands between backticks.
pub(super) fn marked(words: &str) -> Markup {
    html! {
        @for (index, part) in words.split('`').enumerate() {
            @if index % 2 == 0 { (part) } @else { code { (part) } }
        }
    }
}

/// How long ago; a clock that was set back makes it now.
pub(super) fn since(then: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (now - then).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units_and_numbers_their_thousands() {
        for (seconds, told) in [
            (0, "under 1 s"),
            (59, "59 s"),
            (60, "1 min"),
            (245, "4 min 5 s"),
            (3_600, "1 h"),
            (86_399, "23 h 59 min"),
            (1_000_000, "11 d 13 h"),
        ] {
            assert_eq!(long(Duration::from_secs(seconds)), told);
        }
        for (number, told) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), told);
        }
        for (number, told) in [
            (0.0, "0"),
            (0.01, "under 0.1"),
            (0.4, "0.4"),
            (9.94, "9.9"),
            (9.96, "10"),
            (1_234.6, "1,235"),
        ] {
            assert_eq!(rate(number), told);
        }
    }
}
