//! An archive to seal, in one bucket, made by callvault itself.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use bytes::Bytes;
use chrono::{Days, Utc};
use serde_json::Value;

use crate::support::{
    call, config::Setup, http_client, origin::Origin, place::Place, s3::S3, worker::callvault,
};

/// The day so many days ago.
pub(crate) fn day(ago: u64) -> String {
    (Utc::now().date_naive() - Days::new(ago)).to_string()
}

pub(crate) fn lines(text: &str) -> usize {
    text.lines().count()
}

/// What a report finds, by code and key.
pub(crate) fn findings(report: &[Value]) -> Vec<(String, String)> {
    let word = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let found = report.iter().filter(|line| line["what"] == "finding");
    let mut found: Vec<_> = found
        .map(|line| (word(line, "code"), word(line, "key")))
        .collect();
    found.sort();
    found
}

/// A private key as openssl makes it, and its public half.
pub(crate) fn key_pair(dir: &Path) -> (PathBuf, PathBuf) {
    let (private, public) = (dir.join("key.pem"), dir.join("key.pub"));
    for arguments in [
        vec![
            "genpkey",
            "-algorithm",
            "ed25519",
            "-out",
            private.to_str().unwrap(),
        ],
        vec![
            "pkey",
            "-in",
            private.to_str().unwrap(),
            "-pubout",
            "-out",
            public.to_str().unwrap(),
        ],
    ] {
        let output = Command::new("openssl").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    (private, public)
}

pub(crate) struct Archive {
    pub(crate) place: Place,
    origin: Origin,
    setup: Setup,
    config: PathBuf,
}

impl Archive {
    pub(crate) async fn new(place: Place) -> Self {
        let mut setup = Setup::new("amqp://127.0.0.1:1/%2f");
        setup.append(&place.toml("documents"));
        setup.append("[archive]\nquarantine_bucket = \"documents\"\n");
        setup.append("[attachments.recording]\nfile = \"*.wav\"\ncheck = \"wav\"\nbucket = \"documents\"\nmax_size = \"1MiB\"\n");
        let config = setup.write();
        // As the first worker does: without it there is no archive.
        if !place.has_metadata() {
            fs::create_dir_all(place.root()).unwrap();
        }
        Self {
            place,
            origin: Origin::start().await,
            setup,
            config,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.setup.dir()
    }

    /// Runs a command to its end, off the runtime's threads: the origin lives on them.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let config = ["--config", self.config.to_str().unwrap()];
        let all = arguments.iter().chain(&config).map(|&text| text.to_owned());
        let all: Vec<String> = all.collect();
        tokio::task::spawn_blocking(move || callvault(all))
            .await
            .unwrap()
    }

    /// The exit code, and the lines of the report.
    pub(crate) async fn json(&self, command: &[&str], arguments: &[&str]) -> (i32, Vec<Value>) {
        let output = self
            .run(&[command, &["--json"][..], arguments].concat())
            .await;
        let text = String::from_utf8(output.stdout).unwrap();
        let report = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let report: Vec<_> = report.collect();
        let code = output.status.code().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(code < 2, "{said}");
        (code, report)
    }

    pub(crate) async fn seal(&self, arguments: &[&str]) -> (i32, Vec<Value>) {
        self.json(&["seal"], arguments).await
    }

    /// What `verify --sealed` finds, and its summary.
    pub(crate) async fn verify(&self, arguments: &[&str]) -> (Vec<(String, String)>, Value) {
        let (code, mut report) = self.json(&["verify", "--sealed"], arguments).await;
        let summary = report.pop().unwrap();
        assert_eq!(summary["what"], "summary");
        let found = findings(&report);
        assert_eq!(code, i32::from(!found.is_empty()), "{found:?}");
        (found, summary)
    }

    /// Archives calls of a day, each with a recording of a second.
    pub(crate) async fn calls(&self, ago: u64, ids: &[&str]) {
        self.origin
            .put("/recording.wav", call::wav(8000), "audio/x-wav");
        let url = self.origin.url("/recording.wav");
        let events: Vec<_> = ids.iter().map(|id| event(ago, id, &[&url])).collect();
        self.archive(&events, 0).await;
    }

    /// Archives a call of which one recording cannot be had.
    pub(crate) async fn partial_call(&self, ago: u64, id: &str) {
        self.two_recordings(ago, id, 1).await;
    }

    /// Archives it again, when it can.
    pub(crate) async fn complete_call(&self, ago: u64, id: &str) {
        self.origin.put(
            &format!("/{id}/second.wav"),
            call::wav(16_000),
            "audio/x-wav",
        );
        self.two_recordings(ago, id, 0).await;
    }

    async fn two_recordings(&self, ago: u64, id: &str, exit: i32) {
        self.origin
            .put("/recording.wav", call::wav(8000), "audio/x-wav");
        let first = self.origin.url("/recording.wav");
        let second = self.origin.url(&format!("/{id}/second.wav"));
        self.archive(&[event(ago, id, &[&first, &second])], exit)
            .await;
    }

    async fn archive(&self, events: &[String], exit: i32) {
        let file = self.dir().join("events.jsonl");
        fs::write(&file, events.join("\n")).unwrap();
        let output = self.run(&["archive", file.to_str().unwrap()]).await;
        assert_eq!(output.status.code(), Some(exit), "{output:?}");
    }

    /// The key of a call's manifest.
    #[allow(clippy::unused_self, reason = "it is one of this archive")]
    pub(crate) fn manifest(&self, ago: u64, id: &str) -> String {
        format!("{}/{id}/r-{id}/manifest.json", day(ago).replace('-', "/"))
    }

    /// The root of a seal.
    pub(crate) async fn root(&self, number: u32) -> String {
        let seal = self.read(&format!("_seals/chain/{number:08}.json")).await;
        let seal: Value = serde_json::from_str(&seal).unwrap();
        seal["sha256"].as_str().unwrap().to_owned()
    }

    /// The rows of an index.
    pub(crate) async fn rows(&self, key: &str) -> Vec<Value> {
        let packed = self.place.see(key).await.unwrap().bytes;
        let mut text = String::new();
        let mut unpacked = zstd::stream::read::Decoder::new(&packed[..]).unwrap();
        unpacked.read_to_string(&mut text).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    // What somebody does who may write to the bucket, with a client that is not callvault's.

    pub(crate) async fn read(&self, key: &str) -> String {
        let seen = self.place.see(key).await.unwrap();
        String::from_utf8(seen.bytes.to_vec()).unwrap()
    }

    pub(crate) async fn write(&self, key: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        match self.place.endpoint() {
            None => {
                let file = self.place.root().join(key);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, bytes).unwrap();
            }
            Some(endpoint) => {
                let s3 = S3::at(&endpoint);
                let status = s3.put(S3::BUCKET, &self.place.whole(key), &[], bytes).await;
                assert!(status.is_success(), "{status}");
            }
        }
    }

    pub(crate) async fn remove(&self, key: &str) {
        match self.place.endpoint() {
            None => fs::remove_file(self.place.root().join(key)).unwrap(),
            Some(endpoint) => {
                let url = format!("{endpoint}/{}/{}", S3::BUCKET, self.place.whole(key));
                let answer = http_client().delete(url).send().await.unwrap();
                assert!(answer.status().is_success(), "{}", answer.status());
            }
        }
        assert!(self.place.see(key).await.is_none());
    }

    pub(crate) async fn alter(&self, key: &str, from: &str, to: &str) {
        let text = self.read(key).await;
        assert!(text.contains(from), "{text}");
        self.write(key, text.replace(from, to)).await;
    }
}

fn event(ago: u64, id: &str, urls: &[&str]) -> String {
    let mut event: Value = serde_json::from_slice(&call::with_urls(urls)).unwrap();
    event["request_id"] = format!("r-{id}").into();
    let data = &mut event["data"];
    data["id"] = id.into();
    data["created_at"] = format!("{}T10:05:18Z", day(ago)).into();
    data["direction"] = "INBOUND".into();
    for attachment in data["attachments"].as_array_mut().unwrap() {
        attachment["agent_id"] = format!("agent-{}", &id[..1]).into();
    }
    event.to_string()
}
