//! What a worker tells of itself while it runs: each number against known traffic, each reason not to be ready against
//! its real cause.

mod counting;
mod readiness;

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// What Prometheus' own tool has to say of a worker's `/metrics`: nothing, where all is as its maintainers ask.
fn promtool(metrics: &str) -> String {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, which tests/run installs");
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(metrics.as_bytes()).unwrap();
    drop(input);
    let said = promtool.wait_with_output().unwrap();
    let words = [said.stdout, said.stderr].map(|words| String::from_utf8(words).unwrap());
    let words = words.concat();
    assert_eq!(said.status.success(), words.is_empty(), "{words}");
    words
}
