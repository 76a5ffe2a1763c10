//! One small chart: bars for the last quarter of an hour, and the figures in words.

use std::time::Duration;

use maud::{Markup, html};

use super::{
    history::{self, History, Series},
    words::{count, many, rate, size},
};

/// Bars in a chart: one for fifteen seconds.
const BARS: u32 = 60;
const MINUTE: Duration = Duration::from_mins(1);
/// Of the drawing, which is stretched to where it stands.
const HEIGHT: u64 = 40;
const BAR: u32 = 4;
const GAP: u32 = 1;

/// How a series is told.
struct Told {
    series: Series,
    title: &'static str,
    /// What is said where there was nothing.
    none: &'static str,
    /// Whether anything at all is bad news.
    bad: bool,
}

const CHARTS: [Told; 6] = [
    Told {
        series: Series::Archived,
        title: "Events archived",
        none: "None was.",
        bad: false,
    },
    Told {
        series: Series::Bytes,
        title: "Bytes stored",
        none: "Nothing was.",
        bad: false,
    },
    Told {
        series: Series::Passed,
        title: "Events with nothing to do",
        none: "No duplicate, and no event of another name.",
        bad: false,
    },
    Told {
        series: Series::Problems,
        title: "Problems of attachments",
        none: "None.",
        bad: true,
    },
    Told {
        series: Series::Retried,
        title: "Events to be tried again",
        none: "None had to be.",
        bad: true,
    },
    Told {
        series: Series::Dead,
        title: "Dead letters",
        none: "None.",
        bad: true,
    },
];

/// All charts.
pub(super) fn charts(history: &History, now: Now<'_>) -> Markup {
    html! {
        div.charts {
            @for told in &CHARTS { (chart(told, history, now)) }
        }
    }
}

/// The counters at this moment.
pub(super) type Now<'a> = (tokio::time::Instant, &'a [u64; 6]);

fn chart(told: &Told, history: &History, now: Now<'_>) -> Markup {
    let bars = history.parts(told.series, BARS);
    let all = history.grown(told.series, history::SPAN, now);
    let minute = history.grown(told.series, MINUTE, now);
    let most = bars.iter().copied().max().unwrap_or(0);
    // A bar is for a quarter of a minute.
    let highest = per_minute(told, 4.0 * as_f64(most));
    let current = per_minute(told, as_f64(minute));
    let sum = match told.series {
        Series::Bytes => size(all),
        Series::Problems => many(all, "problem", "problems"),
        _ => many(all, "event", "events"),
    };
    let class = if told.bad && all > 0 {
        "chart bad"
    } else {
        "chart"
    };
    html! {
        figure class=(class) {
            figcaption {
                span.title { (told.title) }
                span.now { strong { (current) } " a minute" }
            }
            @if all == 0 {
                p.none { (told.none) }
            } @else {
                (drawing(&bars, most, &format!(
                    "{}, the last 15 minutes: {sum}; at most {highest} a minute, in the last minute {current}.",
                    told.title,
                )))
                p.axis { span { "15 min ago" } span { "now" } }
                p.sum { (sum) ", at most " (highest) " a minute" }
            }
        }
    }
}

fn drawing(bars: &[u64], most: u64, words: &str) -> Markup {
    let width = BARS * (BAR + GAP) - GAP;
    html! {
        svg role="img" aria-label=(words) viewBox=(format!("0 0 {width} {HEIGHT}")) preserveAspectRatio="none" {
            rect.base x="0" y=(HEIGHT - 1) width=(width) height="1" {}
            @for (index, bar) in bars.iter().enumerate() {
                @if *bar > 0 {
                    // What happened at all is seen.
                    @let high = (bar.saturating_mul(HEIGHT) / most.max(1)).max(2);
                    rect x=(index * (BAR + GAP) as usize) y=(HEIGHT - high) width=(BAR) height=(high) {}
                }
            }
        }
    }
}

fn per_minute(told: &Told, value: f64) -> String {
    if told.series == Series::Bytes {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a sum of bytes, which saturates"
        )]
        return size(value as u64);
    }
    rate(value)
}

#[expect(clippy::cast_precision_loss, reason = "shown to two digits or so")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// The figures of all time, in one sentence.
pub(super) fn since_start(sample: &[u64; 6]) -> String {
    let of = |series: Series| count(sample[series as usize]);
    format!(
        "Since it began: {} archived, {} tried again, {} dead, {} with nothing to do; {} stored; {} with attachments.",
        of(Series::Archived),
        of(Series::Retried),
        of(Series::Dead),
        of(Series::Passed),
        size(sample[Series::Bytes as usize]),
        many(sample[Series::Problems as usize], "problem", "problems"),
    )
}
