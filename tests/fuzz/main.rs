//! What anybody may send, made up by the million: events, recordings, JSON files, URLs, names.
//!
//! Each target is a function of bytes that panics where something does not hold. `cargo nextest run -E
//! 'binary(fuzz)'` replays the corpus (`tests/fuzz/corpus/TARGET`, one input a file) and then some thousands
//! of inputs made of it, the same ones each time; `CALLVAULT_FUZZ_SEED` has others made. An input that fails is told,
//! and left in `target/fuzz-failed`.
//!
//! The long run is libFuzzer's, led by coverage. It needs a C++ compiler, and no nightly Rust:
//!
//! ```sh
//! tests/fuzz/run wav -max_total_time=1200     # one target, its name first; the rest is libFuzzer's
//! ```
//!
//! What it learns stays in `target/fuzz/corpus/TARGET`. A finding becomes a test beside the code, and its
//! input, made small, a file of the corpus.

#![cfg_attr(fuzzing, no_main)]
#![allow(unexpected_cfgs, reason = "tests/fuzz/run builds with --cfg fuzzing")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a target says by panicking that something does not hold"
)]

mod cost;
#[cfg(not(fuzzing))]
mod engine;
mod event;
mod guard;
mod json;
mod key;
#[cfg(not(fuzzing))]
mod large;
mod manifest;
mod metadata;
mod wav;

type Target = fn(&[u8]);

/// Each target, by the name of its corpus.
const TARGETS: &[(&str, Target)] = &[
    ("event", event::target),
    ("wav", wav::target),
    ("json", json::target),
    ("guard", guard::target),
    ("key", key::target),
    ("metadata", metadata::target),
];

fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("there is no target {name:?}"))
        .1
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static CHOSEN: std::sync::LazyLock<Target> =
        std::sync::LazyLock::new(|| target(&std::env::var("CALLVAULT_FUZZ").unwrap()));
    cost::in_time(|| CHOSEN(bytes));
});

#[cfg(not(fuzzing))]
mod tests {
    use super::engine::run;

    #[test]
    fn an_event_is_read_as_its_rules_say_or_refused() {
        run("event");
    }

    #[test]
    fn a_recording_that_passes_is_what_the_check_says_of_it() {
        run("wav");
    }

    #[test]
    fn json_is_judged_as_other_readers_do_within_the_memory_that_was_asked_for() {
        run("json");
    }

    #[test]
    fn no_spelling_of_a_url_leads_where_it_must_not() {
        run("guard");
    }

    #[test]
    fn no_event_makes_a_key_that_is_not_its_own() {
        run("key");
    }

    #[test]
    fn metadata_and_errors_are_fit_for_headers_and_logs() {
        run("metadata");
    }
}
