//! An audit that is stopped, killed, or loses its store: it says what it did not see, and goes on later.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::{Archive, Audit, Event, Place};
use crate::support::{
    lossy::Lossy,
    proxy::{Mode, Proxy},
    servers,
    wait::eventually,
};

/// More than a slow store gives away in a moment.
const EVENTS: usize = 24;
const SLOW: Mode = Mode::Slow {
    bytes: 2048,
    pause: Duration::from_millis(20),
};

/// An archive behind a proxy, of which the first and the last file are gone.
struct Scene {
    archive: Archive,
    proxy: Proxy,
    state: PathBuf,
    gone: [String; 2],
}

impl Scene {
    async fn new() -> Self {
        let s3 = servers::s3().await;
        let proxy = Proxy::before(s3.endpoint());
        let endpoint = proxy.instead(s3.endpoint());
        let archive = Archive::s3_at(s3, &endpoint);
        // Of one day: a run goes on in the middle of one.
        let events: Vec<_> = (0..EVENTS).map(|number| Event::of(number * 3)).collect();
        archive.archive(&events).await;
        let mut folders: Vec<_> = events.iter().map(Event::folder).collect();
        folders.sort();
        let gone = [0, EVENTS - 1].map(|at| format!("{}/recording.wav", folders[at]));
        for key in &gone {
            archive.delete("recordings", key).await;
        }
        let state = archive.setup.dir().join("state.json");
        Self {
            archive,
            proxy,
            state,
            gone,
        }
    }

    fn arguments(&self) -> [&str; 6] {
        let state = self.state.to_str().unwrap();
        ["--json", "--older-than", "0s", "--jobs=1", "--state", state]
    }

    /// Begins an audit, and waits until it is in the middle.
    async fn begin(&self) -> Child {
        self.proxy.set(SLOW);
        let mut verify = self.archive.verify(&self.arguments());
        let verify = verify.stdout(Stdio::piped()).stderr(Stdio::piped());
        let verify = verify.spawn().unwrap();
        eventually(
            Duration::from_secs(30),
            "a manifest that is done",
            async || {
                let state = fs::read(&self.state).ok()?;
                let state: Value = serde_json::from_slice(&state).ok()?;
                state["run"]["at"]["manifests"]["after"].as_str().map(drop)
            },
        )
        .await;
        verify
    }

    /// The end of one: what it told.
    async fn end(verify: Child) -> Audit {
        let output = tokio::task::spawn_blocking(|| verify.wait_with_output().unwrap());
        Audit::of(&output.await.unwrap())
    }

    /// Another run, which comes to its end and tells it all.
    async fn go_on(&self) {
        self.proxy.set(Mode::Pass);
        let audit = self.archive.audit(&self.arguments()[3..]).await;
        let [first, last] = &self.gone;
        audit.found(&[
            ("object_missing", "recordings", first),
            ("object_missing", "recordings", last),
        ]);
        assert_eq!(audit.summary["manifests"], EVENTS, "each once");
        assert_eq!(audit.summary["objects"], 3 * EVENTS);
        assert_eq!(audit.summary["complete"], true);
    }

    fn is_in_the_middle(&self, audit: &Audit) {
        assert_eq!(audit.code, 3, "{audit:?}");
        assert_eq!(audit.summary["complete"], false);
        let done = audit.summary["manifests"].as_u64().unwrap();
        assert!((1..EVENTS as u64).contains(&done), "{}", audit.summary);
        let found = &audit.found[..];
        let first = (
            "object_missing".into(),
            "recordings".into(),
            self.gone[0].clone(),
        );
        assert_eq!(found, [first], "nothing that was not seen is missing");
        let at = audit.summary["stopped_at"].as_str().unwrap();
        assert!(
            at.starts_with("the manifests of 2023-08-24, after 2023/08/24/"),
            "{at}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_audit_goes_on_where_it_was_and_its_report_covers_both() {
    let scene = Scene::new().await;
    let mut verify = scene.begin().await;
    verify.kill().unwrap();
    verify.wait().unwrap();
    scene.go_on().await;
    // Finished, it begins anew.
    scene.go_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_audit_says_what_it_did_not_see_and_goes_on_later() {
    let scene = Scene::new().await;
    let verify = scene.begin().await;
    let id = verify.id().to_string();
    let mut kill = std::process::Command::new("kill");
    assert!(kill.arg(id).status().unwrap().success());
    let audit = Scene::end(verify).await;
    scene.is_in_the_middle(&audit);
    assert_eq!(audit.summary["stopped"], "stopped by a signal");
    scene.go_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_goes_down_is_no_missing_object() {
    let scene = Scene::new().await;
    let verify = scene.begin().await;
    scene.proxy.set(Mode::Refuse);
    let audit = Scene::end(verify).await;
    scene.is_in_the_middle(&audit);
    let why = audit.summary["stopped"].as_str().unwrap();
    assert!(
        why.starts_with("bucket \"") && why.contains("2023/08/24/call-"),
        "{why}"
    );
    scene.go_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_store_denies_is_not_verified_and_not_missing() {
    let s3 = servers::s3().await;
    let lossy = Lossy::before(s3.endpoint()).await;
    let archive = Archive::s3_at(s3, lossy.url());
    let events: Vec<_> = (0..3).map(Event::of).collect();
    archive.archive(&events).await;
    lossy.refuse("GET", "/call-1/request-1/recording.wav ", 403);
    lossy.refuse("GET", "/call-2/request-2/manifest.json ", 403);
    let audit = archive.audit(&[]).await;
    assert_eq!((audit.code, &audit.found[..]), (3, &[][..]), "{audit:?}");
    let mut unread: Vec<_> = audit
        .unread
        .iter()
        .map(|line| line["key"].as_str().unwrap())
        .collect();
    unread.sort_unstable();
    // Whether the second manifest names its files cannot be known.
    assert_eq!(unread[0], events[1].key("recording.wav"));
    assert!(
        unread[1..].contains(&&events[2].manifest()[..]),
        "{unread:?}"
    );
    assert_eq!(audit.summary["complete"], true);
    assert_eq!(audit.summary["manifests"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_vanishes_in_between_is_named() {
    let s3 = servers::s3().await;
    let lossy = Lossy::before(s3.endpoint()).await;
    let archive = Archive::s3_at(s3, lossy.url());
    let event = Event::of(0);
    archive.archive(std::slice::from_ref(&event)).await;
    lossy.refuse("GET", "/manifest.json ", 404);
    let key = |file| event.key(file);
    archive.audit(&[]).await.found(&[
        ("manifest_gone", "documents", &event.manifest()),
        ("object_unreferenced", "documents", &key("analysis.json")),
        ("object_unreferenced", "documents", &key("transcript.json")),
        ("object_unreferenced", "recordings", &key("recording.wav")),
    ]);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_no_empty_one() {
    let s3 = servers::s3().await;
    let endpoint = s3.endpoint().to_owned();
    let archive = Archive::s3_at(s3, &endpoint);
    assert!(matches!(archive.place, Place::S3(..)));
    archive.archive(&[Event::of(0)]).await;
    let toml = archive
        .setup
        .toml()
        .replace("callvault-it/", "callvault-none/");
    let config = archive.setup.dir().join("other.toml");
    fs::write(&config, toml).unwrap();
    let mut verify = crate::support::worker::command();
    verify.args(["verify", "--json", "--config"]).arg(&config);
    let audit = Audit::of(&super::run(&mut verify).await);
    assert_eq!((audit.code, audit.found.len()), (3, 0), "{audit:?}");
}

#[tokio::test]
async fn a_folder_that_is_not_mounted_is_no_empty_archive_and_is_not_made() {
    let archive = Archive::folders();
    archive.archive(&[Event::of(0)]).await;
    let folder = archive.setup.dir().join("archive");
    fs::rename(&folder, archive.setup.dir().join("elsewhere")).unwrap();
    for name in ["verify", "seal", "sweep"] {
        let mut command = crate::support::worker::command();
        let config = archive.setup.write();
        command.arg("--config").arg(config).arg(name);
        let output = super::run(&mut command).await;
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("is not there: mount it"), "{said}");
    }
    assert!(!folder.exists());
}
