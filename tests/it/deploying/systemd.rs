//! `deploy/systemd`.

use std::{fs, process::Command, time::Duration};

use humantime::parse_duration;
use tempfile::TempDir;

use super::tools::{deploy, ran};
use crate::support::worker::command;

const WORKER: &str = "systemd/callvault.service";
const COMMAND: &str = "systemd/callvault@.service";
const TIMER: &str = "systemd/callvault@.timer";
const VERIFY: &str = "systemd/callvault@verify.service.d/state.conf";
/// Of ten; what systemd calls "OK" ends at 4.9, and most services have 9.
const EXPOSURE: &str = "--threshold=15";

/// The units in a folder of their own, with the program of this build.
fn units() -> TempDir {
    let dir = TempDir::new().unwrap();
    for file in [WORKER, COMMAND, TIMER, VERIFY] {
        let place = dir.path().join(file.strip_prefix("systemd/").unwrap());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        let unit = fs::read_to_string(deploy(file)).unwrap();
        let program = env!("CARGO_BIN_EXE_callvault");
        fs::write(place, unit.replace("/usr/local/bin/callvault", program)).unwrap();
    }
    dir
}

fn analyze(units: &TempDir) -> Command {
    let mut analyze = Command::new("systemd-analyze");
    analyze
        .current_dir(units.path())
        .env("SYSTEMD_UNIT_PATH", format!("{}:", units.path().display()));
    analyze
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let units = units();
    let said = ran(analyze(&units).args([
        "verify",
        "--man=no",
        "callvault.service",
        "callvault@sweep.service",
        "callvault@sweep.timer",
        "callvault@seal.service",
        "callvault@verify.service",
        "callvault@verify.timer",
    ]));
    assert_eq!(said, "", "what it ignores it says");
}

#[test]
fn the_units_are_as_shut_in_as_systemd_can() {
    let units = units();
    for unit in ["callvault.service", "callvault@sweep.service"] {
        let said = ran(analyze(&units)
            .args(["security", "--offline=yes", "--no-pager", EXPOSURE])
            .arg(unit));
        assert!(said.contains("OK"), "{said}");
    }
    // What one is shut in by, the other is too.
    assert_eq!(sandbox(WORKER), sandbox(COMMAND));
}

fn sandbox(unit: &str) -> Vec<String> {
    let unit = fs::read_to_string(deploy(unit)).unwrap();
    let (_, sandbox) = unit.split_once("# --- The sandbox").unwrap();
    let lines = sandbox
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('['));
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_units_run_callvault_as_it_can_be_run_and_give_it_time_to_end() {
    let mut runs = 0;
    for file in [WORKER, COMMAND, VERIFY] {
        let unit = fs::read_to_string(deploy(file)).unwrap();
        for line in unit
            .lines()
            .filter_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/callvault "))
        {
            for name in ["sweep", "seal", "verify"] {
                let line = line
                    .replace("%i", name)
                    .replace("${STATE_DIRECTORY}", "/tmp");
                let help = ran(command().args(line.split(' ')).arg("--help"));
                assert!(help.contains("Usage: callvault"), "{line}: {help}");
                runs += 1;
            }
        }
    }
    assert_eq!(runs, 9);
    let unit = fs::read_to_string(deploy(WORKER)).unwrap();
    let after = |text: &str| {
        let (_, rest) = unit.split_once(text).unwrap();
        parse_duration(rest.split_whitespace().next().unwrap()).unwrap()
    };
    let slack = Duration::from_secs(10);
    assert!(after("TimeoutStopSec=") >= after("--grace ") + slack);
}
