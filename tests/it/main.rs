//! callvault against real servers: a broker, an S3 server and an HTTP origin, all on loopback.
//!
//! `tests/run` installs the servers; after that `cargo nextest run` and `cargo test` work alone. They
//! are started by `tests/serve` when the first test needs them, and end some seconds after the last
//! one; their logs are in `target/it/*/log`. See [`support::servers`].
//!
//! Each test has its own queue, exchange and bucket prefix ([`support::config::Setup`]), so all may
//! run at once. A test that needs a server to die has one of its own ([`support::servers::Server`]).
//! Tests wait for a condition with a deadline ([`support::wait::eventually`]), never for a time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on says so by panicking"
)]

mod archiving;
mod browsing;
mod checking;
mod clones;
mod commands;
mod confined;
mod connecting;
mod deploying;
mod desk;
mod failing;
mod harness;
mod hostile;
mod manual;
mod metrics;
mod mutated;
mod publishing;
mod reaching;
mod retrying;
mod scheduling;
mod sealing;
mod stores;
mod support;
mod surviving;
mod sweeping;
mod telling;
mod tracing;
mod trusting;
mod uploading;
mod verifying;
mod wav;
