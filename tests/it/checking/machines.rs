//! Machines smaller than the configuration takes them to be.

use super::*;

/// The check, by a shell that first sets limits for it.
async fn limited(setup: &Setup, limits: &str) -> Report {
    let check = connecting(&setup.write());
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limits} && exec \"$@\""), "sh"]);
    shell
        .arg(check.get_program())
        .args(check.get_args())
        .env_clear();
    shell.envs(
        check
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    Report::of(&output(shell).await)
}

#[tokio::test]
async fn too_few_open_files_are_told_with_the_number_that_would_do() {
    let mut setup = Setup::folders().await;
    setup.set("queue", "prefetch", "32");
    let report = limited(&setup, "ulimit -n 256").await;
    contains(
        report.only("weak", "machine", 1),
        "256 files may be open",
        "raise the limit to 480",
    );
    let report = limited(&setup, "ulimit -n 480").await;
    assert_eq!(report.code, Some(0), "{:#?}", report.bad());
}

#[tokio::test]
async fn a_stack_too_small_for_hostile_headers_is_told() {
    let setup = Setup::folders().await;
    let report = limited(&setup, "export RUST_MIN_STACK=8388608").await;
    contains(
        report.only("weak", "machine", 1),
        "RUST_MIN_STACK",
        "leave it unset",
    );
}

#[tokio::test]
async fn more_memory_and_more_spool_than_there_is_are_told() {
    let mut setup = Setup::folders().await;
    setup.set("limits", "memory", "\"64TiB\"");
    let report = check(&setup).await;
    contains(
        report.only("weak", "machine", 1),
        "limits.memory = 64.0 TiB",
        "lower limits.memory",
    );
    setup
        .set("limits", "memory", "\"256MiB\"")
        .set("limits", "spool", "\"1PiB\"");
    let report = check(&setup).await;
    contains(
        report.only("weak", "machine", 1),
        "and limits.spool is 1",
        "lower limits.spool",
    );
}

#[tokio::test]
async fn a_spool_in_memory_is_told_and_one_beside_the_archive_named() {
    let mut setup = Setup::folders().await;
    let report = check(&setup).await;
    let beside = "on one disk with documents, quarantine, recordings";
    let told = |line: &&Value| line["detail"].as_str().unwrap().contains(beside);
    assert!(
        report.lines.iter().any(|line| told(&line)),
        "{:#?}",
        report.lines
    );
    setup.set("limits", "spool_dir", "\"/dev/shm\"");
    let report = check(&setup).await;
    contains(
        report.only("weak", "machine", 1),
        "lies in memory",
        "/var/tmp",
    );
}

#[tokio::test]
async fn a_buckets_folder_that_is_missing_is_told_and_not_made() {
    let setup = Setup::folders().await;
    let report = check(&setup).await;
    let told = report.ok("bucket");
    assert!(
        told.contains("is not there: `run` and `archive` make it"),
        "{told}"
    );
    assert_eq!(report.code, Some(0), "{:#?}", report.bad());
    let folder = setup.dir().join("archive");
    assert!(!folder.exists(), "nor what it would lie in");
    std::fs::create_dir_all(folder.join("documents")).unwrap();
    let report = check(&setup).await;
    assert_eq!(report.ok("bucket"), "documents");
    assert!(!folder.join("recordings").exists());
}
